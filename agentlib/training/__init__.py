"""Fine-tuning on examples: LoRA, QLoRA or all weights, on one process or several, resumed exactly.

Owns the loop, its checkpoints and adapters in PEFT's format. Does not know trajectories or how examples were chosen.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(__name__, {
    "loop": "fine_tune",
    "checkpoints": "Adapter finished",
    "distributed": "Distributed",
})  # fmt: skip
