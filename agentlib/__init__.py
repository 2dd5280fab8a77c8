"""Agent distillation: teach a small model to think, write Python, search and read the results."""

__version__ = "0.1.0"
