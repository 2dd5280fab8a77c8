"""What `doctor` finds out by doing it: the sandbox's walls, a token mask, a tokenizer, a trained
adapter, and the servers that the settings name.
"""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agentlib import config, records

# As a model writes it: code, an end mark, spaces, accents, a character of two code units.
COMPLETION = (
    "Thought: São Tomé, 3 × 4 = 12 🙂\nCode:\n```py\nx = {'a':  [1, 2]}\nprint(x)\n```<end_code>"
)
WALLS = "model-written code could do this; do not run models here before it is fixed: " + (
    "use Linux 6.12 or later, or install bubblewrap"
)
REFUSED = ("execution", "forbidden")  # kinds of failure of what was tried and not allowed
# Finding a session's code refused is not enough: what it wanted must not have happened either.
SETTLE_SECONDS = 0.3


@dataclass(frozen=True)
class Line:
    """One line of the report. `todo` says what to do where it is not ok; a line that is not
    `needed` by the preset never fails the report."""

    what: str
    value: str
    state: str = "ok"  # "ok" | "warning" | "missing" | "failed"
    todo: str = ""
    needed: bool = True

    @property
    def fatal(self) -> bool:
        return self.needed and self.state in ("missing", "failed")


def guarded(what: str, lines: Callable[[], Iterator[Line]], needed: bool = True) -> Iterator[Line]:
    """The lines of one probe; one that raises ends with a failed line that says why."""
    try:
        yield from lines()
    except Exception as error:  # whatever is wrong with a machine is what the report is for
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}, line {where.lineno}"
        message = " ".join(str(error).split())[:300]
        yield Line(
            what,
            f"{type(error).__name__}: {message} ({place})",
            "failed",
            "see whether the lines above explain it, else open an issue with this report",
            needed,
        )


def sandbox(cfg: config.Config) -> Iterator[Line]:
    """An allowed action runs; writing, connecting and signalling to what is outside do not."""
    from agentlib.sandbox import Sandbox

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `protection` says the same
        box = Sandbox(
            tools={"double": lambda x: 2 * x},
            seconds=cfg.sandbox_seconds,
            memory_mb=cfg.sandbox_memory_mb,
        )
    with box:
        held = box.protection
        yield Line(
            f"sandbox ({held.backend})",
            "all walls" if held.full else f"lacks: {'; '.join(held.lacks)}",
            "ok" if held.full else "warning",
            "use Linux 6.12 or later with sandlock or bubblewrap for all walls",
        )
        code = "import sympy\nopen('note', 'w').write('x')\nfinal_answer(double(int(sympy.S(21))))"
        with box.session() as session:
            did = session.run(code)
        yield Line(
            "sandbox: an allowed action",
            "runs" if did.answer == 42 and did.is_final else f"came to {did}",
            "ok" if did.answer == 42 and did.is_final else "failed",
            "no agent can act here; open an issue with this report",
        )
        yield from _walls(box)


def _walls(box) -> Iterator[Line]:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as at:
            at.settimeout(SETTLE_SECONDS)
            target = Path(folder) / "written"
            connect = f"socket.create_connection({at.getsockname()!r}, 2).send(b'x')"
            attempts = {
                "a write outside": (f"open({str(target)!r}, 'w').write('x')", target.exists),
                "a network connection": (f"import socket\n{connect}", lambda: _connected(at)),
                "a signal to another process": (
                    f"import os\nos.kill({victim.pid}, 15)",
                    lambda: _ended(victim),
                ),
            }
            for what, (code, happened) in attempts.items():
                with box.session() as session:
                    failure = session.run(code).failure
                done = happened()
                refused = failure is not None and failure.kind in REFUSED and not done
                how = f"not refused ({failure.kind}: {failure.message})" if failure else "succeeded"
                last = failure.message.strip().splitlines()[-1] if refused else ""
                yield Line(
                    f"sandbox: {what}",
                    f"refused ({last})" if refused else "happened outside" if done else how,
                    "ok" if refused else "failed",
                    WALLS,
                )
    finally:
        victim.kill()
        victim.wait()


def _connected(server: socket.socket) -> bool:
    with contextlib.suppress(TimeoutError):
        server.accept()[0].close()
        return True
    return False


def _ended(process: subprocess.Popen) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SETTLE_SECONDS)
        return True
    return False


def tokens(cfg: config.Config) -> Iterator[Line]:
    """The mask of a recorded trajectory and a completion's tokens, by the first student whose
    tokenizer is in the cache."""
    from agentlib.models import weights

    here = [name for name in cfg.students if weights.cached_tokenizer(name, cfg.weights)]
    if not here:
        yield Line(
            "tokenizer",
            f"not probed, none of {', '.join(cfg.students) or 'no student'} is in the cache",
            "warning",
            "run this again after notebook 00 has downloaded a student",
        )
        return
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.cached_tokenizer(here[0], cfg.weights))
    yield from guarded("a token mask", lambda: _mask(cfg, here[0], tokenizer))
    yield from guarded("tokens read back", lambda: _read_back(here[0], tokenizer))


def _mask(cfg: config.Config, student: str, tokenizer) -> Iterator[Line]:
    from agentlib import cases, filtering, masks, teach

    committed = config.ROOT / "figures" / "records" / "teaching" / "teacher_agent.jsonl"
    file = next((f for f in (teach.records_path(cfg, "agent"), committed) if f.exists()), None)
    passing = [case for case in cases.read(file) if filtering.passes_filter(case)] if file else []
    if not passing:
        yield Line(
            "a token mask",
            "not probed, no recorded trajectory is here",
            "warning",
            "run notebook 02, or this in a clone of the repository",
        )
        return
    messages = cases.conversation(max(passing, key=lambda case: len(case["trace"])))
    (example,) = masks.build_examples([messages], tokenizer, sys.maxsize)
    learnt = [token for token in example.labels if token != masks.IGNORED]
    read = tokenizer.decode(learnt, skip_special_tokens=True)
    said = "".join(turn["content"] for turn in messages if turn["role"] == "assistant")
    right = "".join(read.split()) == "".join(said.split())
    yield Line(
        f"a token mask ({student})",
        f"{len(learnt)} of {len(example.input_ids)} tokens carry loss, "
        + (
            "all of them the assistant's"
            if right
            else f"other text than the assistant's: {read!r:.80}"
        ),
        "ok" if right else "failed",
        "this tokenizer's chat template is not one that training can use: choose another student",
    )


def _read_back(student: str, tokenizer) -> Iterator[Line]:
    from agentlib.models import language

    ids = language.encode(tokenizer, language.quote(tokenizer, COMPLETION))
    again = language.encode(tokenizer, language.quote(tokenizer, tokenizer.decode(ids)))
    yield Line(
        f"tokens read back ({student})",
        f"{len(ids)} tokens of a completion, the same after decoding"
        if again == ids
        else f"{len(ids)} tokens become {len(again)} others after decoding",
        "ok" if again == ids else "warning",
        "what is trained on would be cut into other tokens than what is generated: choose another"
        " student",
    )


def adapters(cfg: config.Config) -> Iterator[Line]:
    """The newest adapter of each student in the preset's runs, against its base's sizes."""
    from agentlib.training import checkpoints

    newest: dict[str, Path] = {}
    for file in sorted(cfg.runs.glob("adapter-*/config.json"), key=lambda f: f.stat().st_mtime):
        if checkpoints.has_weights(file.parent):
            newest[records.read_json(file).get("student", "unknown")] = file.parent
    if not newest:
        yield Line("trained adapters", f"none in {cfg.runs}")
    for student, folder in newest.items():
        yield from guarded(
            f"adapter of {student}",
            lambda student=student, folder=folder: _adapter(cfg, student, folder),
        )


def _adapter(cfg: config.Config, student: str, folder: Path) -> Iterator[Line]:
    from safetensors import safe_open
    from transformers import AutoTokenizer

    from agentlib.runner import fits

    sizes = fits.shape(student, cfg.weights)
    if sizes is None:
        yield Line(f"adapter of {student}", f"{folder.name}: base not here", "warning", "fetch it")
        return
    wrong = []
    if (
        folder / "student" / "tokenizer.json"
    ).exists():  # those that come with the project have none
        vocabulary = len(AutoTokenizer.from_pretrained(folder / "student"))
        wrong += [f"{vocabulary} tokens in its tokenizer"] * (vocabulary > sizes.vocabulary)
    for file in (folder / "student").glob("*.safetensors"):
        with safe_open(file, "np") as held:
            for name in held.keys():  # noqa: SIM118 (not a mapping)
                rows, *columns = held.get_slice(name).get_shape()
                if "q_proj.lora_A" in name and columns != [sizes.width]:
                    wrong.append(f"{name} reads {columns[0]} numbers")
                if "lora" not in name and ("embed_tokens" in name or "lm_head" in name):
                    wrong += [f"{name} has {rows} rows"] * (rows != sizes.vocabulary)
    expected = f"a base of width {sizes.width} and {sizes.vocabulary} tokens"
    yield Line(
        f"adapter of {student}",
        f"{folder.name}: {wrong[0]}, expected {expected}"
        if wrong
        else f"{folder.name} fits {expected}",
        "missing" if wrong else "ok",
        f"delete {folder} and train again with notebook 03",
    )


def servers(cfg: config.Config, down: set[str]) -> Iterator[Line]:
    """A completion of the student server and a search of the retriever, unless preflight found
    them `down`."""
    if cfg.student_server and cfg.students and "student server" not in down:
        yield from guarded("student server: a completion", lambda: _completion(cfg))
    if cfg.retriever_url and "retriever" not in down:
        yield from guarded("retriever: a search", lambda: _search(cfg))


def _completion(cfg: config.Config) -> Iterator[Line]:
    from agentlib.models import ServerModel

    model = ServerModel(
        cfg.student_server, cfg.students[0], attempts=1, timeout=20.0, source=cfg.weights
    )
    with contextlib.closing(model):
        asked = [{"role": "user", "content": "Say yes."}]
        ((said,),) = model.generate([asked], max_new_tokens=4)
        listed = ", ".join(model.listed())
    yield Line(
        "student server: a completion", f"{said.completion_tokens} tokens; it lists {listed}"
    )


def _search(cfg: config.Config) -> Iterator[Line]:
    from agentlib.retrieval import RetrieverClient

    began = time.monotonic()
    client = RetrieverClient(cfg.retriever_url, seconds=15.0, attempts=1)
    (hits,) = client.search(["capital of Peru"], k=1)
    yield Line(
        "retriever: a search",
        f"{hits[0].passage.title!r} in {time.monotonic() - began:.1f} s" if hits else "no passage",
        "ok" if hits else "missing",
        "the server's index is empty: build it with python -m agentlib serve --build",
    )
