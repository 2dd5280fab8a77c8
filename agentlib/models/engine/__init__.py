"""Decoding on a CPU: one batch's keys and values, kept prompts, guesses of the next tokens,
sampling."""
