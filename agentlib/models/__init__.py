"""Language models behind one call, `generate`: in this process or on a server (`ServerModel`).

In this process `open_model` chooses the engine: vLLM (`VLLMModel`), transformers' `generate`
(`TransformersModel`) or our own decoding (`LocalModel`). Owns templates, sampling, stop strings,
weights and where they come from. Does not know agents, tasks or training. `engine/` is our
decoding on a CPU; outside this room only training looks into it.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "language": "Completion LanguageModel in_process pausing",
        "local": "LocalModel",
        "opening": "open_model resolve_engine",
        "transformers": "TransformersModel",
        "vllm": "VLLMModel",
        "server": "ServerError ServerModel llama_server",
        "loading": "resolve_precision",
        "weights": "fetch_tokenizer fetch_weights=fetch find_model=known",
        "engine.decoding": "MAX_BATCHED_TOKENS",
    },
)
