"""Fine-tuning on examples: LoRA, QLoRA or all weights, on one process or several, resumed exactly.

It owns the loop, its checkpoints and adapters in PEFT's format. It does not know trajectories, how
examples were chosen, or the experiment's configuration: a run has `TrainingSettings` and a folder.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "settings": "TrainingSettings",
        "loop": "fine_tune token_loss",
        "likelihood": "likelihoods",
        "checkpoints": "Adapter load_finished=finished",
        "distributed": "Distributed",
    },
)
