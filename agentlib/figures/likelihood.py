"""How hard two kinds of trajectories are for a student: negative log-likelihoods, in pairs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

RESAMPLES = 2000


def likelihood_table(
    found: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], seed: int = 0
) -> pd.DataFrame:
    """A row for each part of a trajectory: nats per token of side a and of side b, and b - a.

    `found` has for each part the two sides, each a mapping from a question's id to its nats per
    token; questions that only one side has are left out. The difference has a 95 % interval, a
    bootstrap over questions that draws both sides of one together. Raises ValueError for sides that
    share no question.
    """
    rows = {}
    for part, (a, b) in found.items():
        shared = [name for name in a if name in b]
        if not shared:
            raise ValueError(
                f"the two sides of {part!r} share no question, expected some; give trajectories of"
                " the same questions"
            )
        x, y = (np.array([side[name] for name in shared]) for side in (a, b))
        drawn = np.random.default_rng(seed).integers(0, len(shared), (RESAMPLES, len(shared)))
        low, high = np.percentile((y - x)[drawn].mean(axis=1), [2.5, 97.5])
        rows[part] = {
            "questions": len(shared),
            "a": f"{x.mean():.3f}",
            "b": f"{y.mean():.3f}",
            "b - a": f"{(y - x).mean():+.3f} [{low:.3f}, {high:.3f}]",
        }
    return pd.DataFrame.from_dict(rows, orient="index")
