"""Language models behind one call, `generate`: in this process (`LocalModel`) or on a server (`ServerModel`).

Owns templates, sampling, stop strings, weights and where they come from. Does not know agents, tasks or training.
`engine/` is our decoding on a CPU; nothing outside this room looks into it.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(__name__, {
    "language": "Completion LanguageModel",
    "local": "LocalModel",
    "server": "ServerModel ServerError llama_server",
})  # fmt: skip
