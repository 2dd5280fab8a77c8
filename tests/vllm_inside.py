"""Run by the Python of vLLM's environment: `vllm_inside.py ASKED ANSWERS`. One `VLLMModel` answers
the requests of a JSON file in turn, each with its adapter; completions are written as JSON."""

import dataclasses
import json
import sys
from pathlib import Path

from agentlib.models import VLLMModel


def main(asked: Path, answers: Path) -> None:
    requests = json.loads(asked.read_text(encoding="utf-8"))
    model = VLLMModel(
        requests["model"], precision="fp32", max_context=requests["context"], lora_rank=32
    )
    started = id(model._llm)
    found = []
    for request in requests["requests"]:
        adapter = request.pop("adapter")
        model.use(None if adapter is None else Path(adapter))
        completions = model.generate(**request)
        found.append([[dataclasses.asdict(c) for c in each] for each in completions])
    said = {
        "found": found,
        "device": model.device,
        "engine": model.engine,
        "restarted": id(model._llm) != started,
    }
    model.close()
    answers.write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":  # vLLM's engine is a process that imports this file again
    main(Path(sys.argv[1]), Path(sys.argv[2]))
