"""`python -m agentlib train`: one student's training, so that `accelerate launch` or torchrun can
start it on several GPUs.

Notebook 03 uses the adapters that it finished.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from agentlib import config, distill
from agentlib.benchmarks import search
from agentlib.training import Distributed


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one student by one method, or resume its training; 2, with a sentence, if that is
    impossible.
    """
    parser = argparse.ArgumentParser(
        prog="python -m agentlib train", description="Train one student of one method."
    )
    parser.add_argument("--preset", default="smoke", help="smoke, laptop or paper")
    parser.add_argument("--student", help="a name of the preset's students; its first by default")
    parser.add_argument("--method", default="agent_distill_ftp", help=", ".join(distill.TEACHER_OF))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="override one setting of the preset (may be repeated)",
    )
    parser.add_argument(
        "--sharded",
        action="store_true",
        help=(
            "split weights, gradients and optimiser over the processes (FSDP) instead of copying"
            " them (DDP)"
        ),
    )
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        cfg = config.load(asked.preset, **dict(map(config.setting, asked.settings)))
        student = asked.student or cfg.students[0]
        with Distributed(asked.sharded) as group:
            is_rag = asked.method == "cot_distill_rag"
            tool = search.web_search(distill.passages_from(cfg)) if is_rag else None
            trained = distill.train(cfg, student, asked.method, tool, group=group)
            if group.first:
                print(
                    f"{student}, {asked.method}: {len(trained.losses)} steps on {group.count} "
                    f"process{'es' * (group.count > 1)}, loss {trained.losses[0]['loss']:.3f} → "
                    f"{trained.losses[-1]['loss']:.3f}, in {trained.path}"
                )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
