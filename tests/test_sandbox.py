"""The sandbox with real processes: every test starts interpreters and looks at what they did."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from pathlib import Path

import psutil
import pytest

from agentlib import sandbox_child as child
from agentlib.isolation import RENEWED_AFTER, STARTERS
from agentlib.sandbox import Outcome, Sandbox, SandboxLost

SECONDS = 1.5


class Search:
    """A tool that counts how often it is really asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, query, k=1):
        self.asked.append(query)
        if query == "fail":
            raise LookupError("no index is loaded")
        return [query.upper()] * k


def open_box(search=None, backend="auto", **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tools = {"web_search": search or Search()}
        return Sandbox(**({"tools": tools, "seconds": SECONDS, "memory_mb": 256, "backend": backend} | settings))


def below(pid):
    return psutil.Process(pid).children(recursive=True)


def wait_until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


@pytest.fixture(scope="module")
def search():
    return Search()


@pytest.fixture(scope="module")
def box(search):
    with open_box(search) as opened:
        yield opened


@pytest.fixture
def session(box):
    with box.session() as opened:
        yield opened


def protected(box):
    if box.protection.backend == "limits":
        pytest.skip("neither sandlock nor bwrap works on this machine")
    return box


# --- what an action gives back ----------------------------------------------------------------------------------


def test_print_and_last_expression(session):
    outcome = session.run("x = 20\nprint('found', x)\nx + 1")
    assert (outcome.stdout, outcome.value, outcome.failure) == ("found 20\n", "21", None)
    assert not outcome.is_final and outcome.seconds < SECONDS


def test_none_is_no_value_and_a_long_one_is_shortened(session):
    assert session.run("print('x')").value == ""
    value = session.run("'a' * 5000").value
    assert value.startswith("'aaa") and len(value) < 2100 and "5002 characters" in value


def test_standard_error_and_raw_descriptors_are_captured(session):
    outcome = session.run("import sys, os\nprint('one', file=sys.stderr)\n_ = os.write(1, b'two\\n')")
    assert outcome.stdout == "one\ntwo\n"


def test_syntax_error_is_a_parse_failure_and_runs_nothing(session):
    outcome = session.run("print('never')\nx = = 3")
    assert outcome.failure.kind == "parse" and outcome.stdout == ""
    assert "line 2" in outcome.failure.message and "SyntaxError" in outcome.failure.message
    for code in ("return 1", "x\0y", "(" * 500, "é" + "\ud800"):
        assert session.run(code).failure.kind == "parse", code


def test_an_error_names_no_place_of_this_machine(session):
    message = session.run("from json import nothing_such").failure.message
    assert message.endswith("ImportError: cannot import name 'nothing_such' from 'json' (json/__init__.py)")
    message = session.run("from sympy import nothing_such").failure.message
    assert message.endswith("(sympy/__init__.py)")


def test_error_shows_the_lines_of_the_code_and_nothing_of_ours(session):
    session.run("def inverse(n):\n    return 1 / n")
    failure = session.run("print('before')\ny = 5\ninverse(0)").failure
    assert failure.kind == "execution"
    assert failure.message.splitlines() == [
        "line 3: inverse(0)",
        "line 2, in inverse: return 1 / n",
        "ZeroDivisionError: division by zero",
    ]


def test_failed_action_keeps_output_and_variables(session):
    outcome = session.run("a = 1\nprint('kept')\nraise ValueError('no')")
    assert outcome.stdout == "kept\n" and outcome.failure.message.endswith("ValueError: no")
    assert session.run("a").value == "1"


def test_exit_is_a_failure_not_an_end(session):
    assert session.run("b = 2\nexit(1)").failure.kind == "execution"
    assert session.run("b").value == "2"


def test_outcomes_are_plain(session):
    outcome = session.run("web_search('plain', k=2)\nfinal_answer({'a': (1, 2.5, None, True)})")
    plain = json.loads(json.dumps(dataclasses.asdict(outcome)))
    assert plain["answer"] == {"a": [1, 2.5, None, True]}
    assert plain["tool_calls"] == [{"name": "web_search", "args": ["plain"], "kwargs": {"k": 2}}]
    assert Outcome() == Outcome(_number=3)


# --- the final answer -------------------------------------------------------------------------------------------


def test_final_answer_stops_the_code_and_passes_except_exception(session):
    outcome = session.run("try:\n    final_answer(42)\nexcept Exception:\n    print('caught')\nprint('after')")
    assert outcome.is_final and outcome.answer == 42 and outcome.stdout == "" and outcome.failure is None


def test_final_answer_wins_over_what_follows_a_bare_except(session):
    outcome = session.run("try:\n    final_answer('first')\nexcept:\n    1 / 0")
    assert outcome.is_final and outcome.answer == "first" and outcome.failure is None


def test_final_answer_survives_being_overwritten(session):
    session.run("final_answer = 3\nprint = None")
    assert session.run("final_answer(final_answer is not None)").answer is True


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("np.float64(2.5)", 2.5),
        ("np.int32(7)", 7),
        ("np.bool_(True)", True),
        ("np.arange(4).reshape(2, 2)", [[0, 1], [2, 3]]),
        ("[np.int64(1), sympy.Rational(1, 3)]", [1, "1/3"]),
        ("sympy.sqrt(8)", "2*sqrt(2)"),
        ("sympy.Integer(6)", "6"),
        ("Fraction(3, 9)", "1/3"),
        ("{3}", "{3}"),
        ("{1: 'a'}", {"1": "a"}),
        ("10**5000", "1" + "0" * 5000),
        ("1 + 2j", "(1+2j)"),
        ("None", None),
        ("'\\ud800'", "?"),
    ],
)
def test_answers_become_plain(session, expression, expected):
    outcome = session.run(f"import numpy as np, sympy\nfrom fractions import Fraction\nfinal_answer({expression})")
    assert outcome.is_final and outcome.failure is None
    assert outcome.answer == expected and type(outcome.answer) is type(expected)


# --- tools ------------------------------------------------------------------------------------------------------


def test_tool_is_asked_once_for_equal_arguments_in_a_step(session, search):
    search.asked.clear()
    codes = ["print(web_search('rome'))"] * 4 + ["print(web_search('oslo'))"]
    outcomes = session.try_each(codes)
    assert [o.stdout for o in outcomes] == ["['ROME']\n"] * 4 + ["['OSLO']\n"]
    assert sorted(search.asked) == ["oslo", "rome"]
    assert all(len(o.tool_calls) == 1 for o in outcomes)
    session.try_each(codes[:1])
    assert search.asked.count("rome") == 2, "the next step asks again"


def test_tool_error_can_be_seen_and_caught(session):
    failure = session.run("web_search('fail')").failure
    assert failure.kind == "execution"
    assert failure.message.endswith("RuntimeError: web_search failed: LookupError: no index is loaded")
    assert (
        session.run("try:\n    web_search()\nexcept RuntimeError as e:\n    print('TypeError' in str(e))").stdout
        == "True\n"
    )


def test_bad_tool_arguments_are_a_type_error(session, search):
    search.asked.clear()
    outcome = session.run("web_search({1, 2})")
    assert "TypeError: web_search() takes plain values" in outcome.failure.message
    assert outcome.tool_calls == [] and search.asked == []


def test_time_in_a_tool_is_not_the_actions_time():
    with open_box(tools={"slow": lambda: time.sleep(0.8)}, seconds=0.5) as box:
        outcome = box.session().run("slow()\n'done'")
        assert outcome.value == "'done'" and outcome.seconds < 0.5
    with open_box(tools={"slow": lambda n: time.sleep(0.1)}, seconds=0.5, tool_seconds=0.2) as box:
        outcome = box.session().run("for n in range(100): slow(n)")
        assert outcome.failure.kind == "timeout" and len(outcome.tool_calls) < 20


def test_large_answers_pass(session, search):
    assert session.run("len(web_search('x' * 100_000, k=20)[3])").value == "100000"


# --- candidates and the state -----------------------------------------------------------------------------------


def test_candidates_start_from_one_state_and_do_not_meet(session):
    session.run("items = [0]\nimport random\nrandom.seed(7)")
    add = "items.append({0})\nimport {1}\nprint(items, random.random(), 'wave' in __import__('sys').modules)"
    outcomes = session.try_each([add.format(n, module) for n, module in enumerate(("wave", "json", "json"))])
    drawn = "0.32383276483316237"  # random.Random(7).random()
    assert [o.stdout for o in outcomes] == [f"[0, {n}] {drawn} {n == 0}\n" for n in range(3)]
    assert session.try_each(["items"])[0].value == "[0]", "nothing is kept without a commit"


def test_winner_goes_on_without_running_again(session, search):
    search.asked.clear()
    outcomes = session.try_each(["n = 1; web_search('one')", "n = 2; web_search('two')"])
    session.commit(outcomes[1])
    assert session.run("n += 40\nn").value == "42"
    assert sorted(search.asked) == ["one", "two"]


def test_what_a_winner_wrote_is_kept_and_what_a_loser_wrote_is_not(session):
    session.run("kept = open('notes.txt', 'w')\n_ = kept.write('one ')\nimport os; os.mkdir('sub'); os.symlink('notes.txt', 'link')")
    codes = ["_ = kept.write(f'{n} '); kept.flush(); open('sub/n', 'w').write('{n}')".replace("{n}", n) for n in "23"]
    outcomes = session.try_each([*codes, "open('notes.txt').read()"])
    assert [o.failure for o in outcomes] == [None] * 3, outcomes
    session.commit(outcomes[1])
    assert session.run("open('link').read(), open('sub/n').read(), sorted(os.listdir())").value == (
        "('one 3 ', '3', ['link', 'notes.txt', 'sub'])"
    )


def test_the_place_in_an_open_file_is_each_candidates_own(session):
    session.run("_ = open('lines', 'w').write('a\\nb\\nc\\n')\nimport os\nf = os.open('lines', os.O_RDONLY)\n_ = os.read(f, 2)")
    assert [o.value for o in session.try_each(["os.read(f, 2)"] * 3)] == ["b'b\\n'"] * 3


MEETINGS = {  # what an earlier action prepares, what one candidate does, what the other prints
    "a pipe": ("import os\nr, w = os.pipe()", "os.write(w, b'x' * 9)", "print(os.read(r, 9))"),
    "a pair of sockets": ("import socket\na, b = socket.socketpair()", "a.send(b'x')", "b.settimeout(0.5)\nprint(b.recv(9))"),
    "a file in memory": ("import os\nf = os.memfd_create('f')", "os.pwrite(f, b'x', 0)", "print(os.pread(f, 9, 0))"),
    "a file without a name": (
        "import tempfile\nf = tempfile.TemporaryFile()", "f.write(b'x')\nf.flush()", "f.seek(0)\nprint(f.read())",
    ),
    "shared memory": ("import mmap\nm = mmap.mmap(-1, 9)", "m[:1] = b'x'", "print(m[:])"),
    "an old kind of shared memory": (
        "import ctypes\nc = ctypes.CDLL(None)\nc.shmat.restype = ctypes.c_void_p\n"
        "i = c.shmget(0, 9, 0o1600)\np = c.shmat(i, None, 0)\nassert i >= 0",
        "ctypes.memset(p, 120, 1)", "print(ctypes.string_at(p, 1))",
    ),
    "the folder they come from": (
        "import os\nhere = os.getcwd()", "open(here + '/f', 'w').write('x')", "print(open(here + '/f').read())",
    ),
    "each other's folder": (
        "import os", "open('f', 'w').write('x')",
        "for name in os.listdir('..'):\n    if name != os.path.basename(os.getcwd()): print(open(f'../{name}/f').read())",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", MEETINGS)
def test_candidates_cannot_meet_in(way, walled):
    prepare, tell, listen = MEETINGS[way]
    with walled.session() as session:
        session.run(prepare)
        codes = [f"{tell}\nimport time; time.sleep(0.3)", f"import time; time.sleep(0.15)\n{listen}"]
        told, heard = session.try_each(codes)
        assert "x" not in heard.stdout, (told, heard)
        assert session.run("40 + 2").value == "42"


def test_an_open_figure_of_a_loser_is_not_the_winners():
    with open_box(seconds=60.0, memory_mb=2048) as box, box.session() as session:
        assert session.run("import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt").failure is None
        outcomes = session.try_each(["plt.figure(); plt.plot([1, 2])", "1"])
        session.commit(outcomes[1])
        assert session.run("plt.get_fignums()").value == "[]"
        assert session.run("plt.plot([1, 2]); plt.savefig('f.png'); import os; os.path.getsize('f.png') > 1000").value == "True"


@pytest.mark.parametrize("flood", [
    "while True:\n    with open(f'{len(__import__(\"os\").listdir())}', 'wb') as f: f.write(bytes(1 << 22))",
    "n = 0\nwhile True:\n    n += 1\n    open(f'file{n}', 'w').close()",
    "import os\nwhile True:\n    os.mkdir('d'); os.chdir('d')",
    "f = open('one', 'wb')\nwhile True: f.write(bytes(1 << 20))",
])  # fmt: skip
def test_what_may_be_written_is_limited_and_nothing_of_it_stays(flood):
    with open_box() as box:
        with box.session() as session:
            outcome = session.run(flood)
            assert outcome.failure.kind == "memory", outcome
            assert session.run("open('small', 'w').write('x')").failure is None
        if "chdir" not in flood:
            assert wait_until(lambda: os.listdir(box._zygote.scratch) == [], 20.0)
    assert not os.path.exists(box._zygote.scratch)


def test_an_outage_of_a_tool_stops_the_run_and_is_no_observation(session, search, box):
    def gone(query):
        raise ConnectionError("retriever cannot be reached")

    with open_box(tools={"web_search": gone}) as mine, mine.session() as asked:
        with pytest.raises(ConnectionError, match="cannot be reached"):
            asked.run("try:\n    web_search('x')\nexcept BaseException:\n    final_answer('I guess')")
        assert asked.run("1 + 1").value == "2", "the session is usable when the tool is back"


def test_a_candidate_that_finds_no_process_left_is_tried_again(caplog):
    """One candidate's fork bomb is not another's failure: those that find no process left wait for its end."""
    caplog.set_level("INFO", logger="agentlib")
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    scout = "import os\ntry:\n    while True: os.fork() or os._exit(0)\nexcept OSError: pass"  # until none is left
    with open_box(seconds=12.0, workers=2) as box, box.session() as session:
        outcomes = session.try_each([bomb, scout, *["6 * 7"] * 4])
    assert outcomes[0].failure is not None and [o.value for o in outcomes[2:]] == ["42"] * 4, outcomes
    assert "an action could not begin" in caplog.text


def test_losers_end(box, session):
    outcomes = session.try_each(["1"] * 6)
    before = len(below(box._zygote.pid))
    session.commit(outcomes[2])
    assert wait_until(lambda: len(below(box._zygote.pid)) <= before - 5)


def test_more_candidates_can_join_a_step(box, session, search):
    search.asked.clear()
    session.run("x = 1")
    first = session.try_each(["x = 2\nprint(web_search('rome'))"])[0]
    (more,) = box.try_many([(session, ["print(x, web_search('rome'))"])], more=True)
    assert more[0].stdout.startswith("1 ") and search.asked == ["rome"], "one state, one search"
    session.commit(first)
    assert session.run("x").value == "2"
    with pytest.raises(ValueError, match="last try_each"):
        session.commit(more[0])


def test_a_step_can_be_dismissed(box, session):
    session.run("x = 1")
    before = len(below(box._zygote.pid))
    outcome = session.try_each(["x = 2"])[0]
    session.dismiss()
    assert wait_until(lambda: len(below(box._zygote.pid)) == before) and session.run("x").value == "1"
    with pytest.raises(ValueError, match="last try_each"):
        session.commit(outcome)


def test_only_the_last_step_can_be_committed_once(box, session):
    first = session.run("1")
    second = session.try_each(["2"])[0]
    for old in (first, Outcome()):
        with pytest.raises(ValueError, match="last try_each"):
            session.commit(old)
    with box.session() as other, pytest.raises(ValueError, match="last try_each"):
        other.commit(second)
    session.commit(second)
    with pytest.raises(ValueError, match="only once"):
        session.commit(second)


def test_sessions_are_apart(box):
    with box.session() as a, box.session() as b:
        a.run("secret = 1")
        assert "NameError" in b.run("secret").failure.message
    with pytest.raises(RuntimeError, match="closed"):
        a.run("1")


def test_many_sessions_at_once(box):
    sessions = [box.session() for _ in range(64)]
    results = box.try_many([(s, [f"n = {i}", f"n = -{i}"]) for i, s in enumerate(sessions)])
    for s, outcomes in zip(sessions, results, strict=True):
        s.commit(outcomes[0])
    again = box.try_many([(s, ["n"]) for s in sessions])
    assert [o[0].value for o in again] == [str(i) for i in range(64)]
    for s in sessions:
        s.close()
    assert wait_until(lambda: len(below(box._zygote.pid)) < 10)


def test_threads_with_their_own_sessions(box):
    found = {}

    def count(name):
        with box.session() as mine:
            mine.run(f"total = {name}")
            for _ in range(5):
                mine.run("total += 1")
            found[name] = mine.run("total").value

    threads = [threading.Thread(target=count, args=(n * 100,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == {n * 100: str(n * 100 + 5) for n in range(4)}


def test_replaced_functions_do_not_break_the_runner(session):
    code = (
        "import os, json, time, random, builtins\nos.write = os.fork = json.dumps = random.getstate = time.time = None"
    )
    assert session.run(code).failure is None
    assert session.run("1 + 1").value == "2"


def test_a_dropped_session_ends(box):
    dropped = box.session()
    dropped.run("x = 1")
    before = len(below(box._zygote.pid))
    del dropped
    with box.session() as other:
        other.run("1")
    assert wait_until(lambda: len(below(box._zygote.pid)) < before)


# --- limits -----------------------------------------------------------------------------------------------------


def test_timeout_kills_in_time_and_keeps_state_and_output(session):
    session.run("x = 5")
    began = time.monotonic()
    loops = [
        "print('on')\nwhile True: pass",
        "try:\n    while True: pass\nexcept BaseException: pass",
        "import time; time.sleep(60)",
    ]
    outcomes = session.try_each([*loops, "x"])
    assert time.monotonic() - began < 2.5 * SECONDS + 1
    assert [o.failure and o.failure.kind for o in outcomes] == ["timeout"] * 3 + [None]
    assert outcomes[0].stdout == "on\n" and outcomes[3].value == "5"
    session.commit(outcomes[0])
    assert session.run("x").value == "5"


def test_timeout_takes_the_actions_own_processes_along(box, session):
    before = len(below(box._zygote.pid))
    code = "import os, time\nfor _ in range(3):\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)"
    assert session.run(code).failure.kind == "timeout"
    assert wait_until(lambda: len(below(box._zygote.pid)) <= before)


@pytest.mark.parametrize(
    "bomb", ["x = [0] * 10**10", "s = []\nwhile True: s.append('x' * 10**6)", "import numpy as np\nnp.ones(10**10)"]
)
def test_memory_bomb(session, bomb):
    session.run("x = 'kept'")
    failure = session.run(bomb).failure
    assert failure.kind == "memory" and "MemoryError" in failure.message
    assert session.run("x").value == "'kept'"


def test_endless_output_is_cut(session):
    outcome = session.run("for _ in range(200_000): print('y' * 100)\n'end'")
    assert outcome.value == "'end'" and 20_000 <= len(outcome.stdout) < 20_200 and "cut" in outcome.stdout[-60:]


@pytest.mark.parametrize(
    "end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)", "os.closerange(3, 200)"]
)
def test_a_process_that_dies_is_killed_not_waited_for(session, end):
    session.run("x = 6")
    began = time.monotonic()
    outcome = session.run(f"import os\nprint('last words')\n{end}")
    assert outcome.failure.kind == "killed" and outcome.stdout == "last words\n"
    assert time.monotonic() - began < SECONDS
    assert session.run("x").value == "6"


def test_a_forked_process_does_not_answer_for_the_action(session):
    outcome = session.run(
        "import os\npid = os.fork()\nif pid: _ = os.waitpid(pid, 0)\nx = 'parent' if pid else 'child'\nx"
    )
    assert outcome.value == "'parent'"


def test_recursion_is_an_error(session):
    assert "RecursionError" in session.run("def f(): f()\nf()").failure.message


def test_forged_messages_reach_nobody_else(session):
    forge = """
    import os, struct, stat
    body = b'{"value": "forged", "failure": null, "is_final": false, "answer": null}'
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                for _ in range(50): os.write(fd, struct.pack(">IIc", len(body), 1, b"D") + body)
        except OSError: pass
    """
    outcomes = session.try_each([textwrap.dedent(forge), "import time; time.sleep(0.3); 'honest'", "'me too'"])
    assert [o.value for o in outcomes[1:]] == ["'honest'", "'me too'"]
    garbage = "import os\nfor fd in range(3, 256):\n    try: os.write(fd, b'C' * 4000)\n    except OSError: pass"
    assert session.run(garbage).failure.kind == "killed"
    assert session.run("1").value == "1"


# --- isolation --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sandlock", "bwrap"])
def walled(request):
    try:
        opened = open_box(backend=request.param)
    except RuntimeError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


def test_files_and_network_are_out_of_reach(walled, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    with walled.session() as session:
        reads = [f"print(open({str(path)!r}).read())" for path in (secret, __file__, "/etc/passwd", "/proc/1/environ")]
        writes = [
            f"open({str(tmp_path / 'new')!r}, 'w')",
            "open('../here.txt', 'w')",
            f"import os; os.mkdir({str(tmp_path / 'd')!r})",
        ]
        nets = [
            "import socket; socket.create_connection(('127.0.0.1', 22), 1)",
            "import urllib.request; urllib.request.urlopen('http://example.com', timeout=1)",
        ]
        for outcome in session.try_each(reads + writes + nets):
            assert outcome.failure and outcome.failure.kind in ("forbidden", "execution"), outcome
            assert outcome.stdout == ""
        refused = session.try_each([*reads, *writes, nets[1]])
        if walled.protection.backend == "sandlock":
            assert {o.failure.kind for o in refused} == {"forbidden"}
        assert session.run("import os; dict(os.environ)").value == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


def test_processes_outside_and_beside_are_out_of_reach(walled):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with walled.session() as session:
            assert session.run(f"import os; os.kill({bystander.pid}, 9)").failure
            assert session.run("import os; os.kill(os.getppid(), 9)").failure, "the process that holds the state"
            assert session.run("1").value == "1"
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_protection_is_in_words(box):
    assert box.protection.backend in STARTERS
    assert all(isinstance(text, str) for text in box.protection.covers + box.protection.lacks)
    if box.protection.backend != "limits":
        assert any(text.startswith("files") for text in box.protection.covers)


def test_limits_alone_warns_and_strict_refuses(monkeypatch):
    with pytest.warns(UserWarning, match=r"NOT FULLY ISOLATED.*second wall"), Sandbox(backend="limits") as box:
        assert box.session().run("1").value == "1"
        assert "a second wall around the first" in box.protection.lacks and not box.protection.full
    with pytest.raises(RuntimeError, match=r"which lacks: .*second wall"):
        Sandbox(backend="limits", strict=True)

    def broken(command, scratch):
        raise OSError("not on this machine")

    monkeypatch.setitem(STARTERS, "sandlock", broken)
    monkeypatch.setitem(STARTERS, "bwrap", broken)
    with pytest.raises(RuntimeError, match="not on this machine"):
        Sandbox(strict=True)
    with pytest.warns(UserWarning, match="not on this machine"), Sandbox() as box:
        assert box.protection.backend == "limits"


@pytest.mark.parametrize(("wall", "reached"), [("confine", "files"), ("filter_calls", "network")])
def test_a_wall_that_does_not_stand_is_found_out(monkeypatch, tmp_path, wall, reached):
    for name in ("sandbox_child", *child.FILES):
        text = Path(child.__file__).with_name(f"{name}.py").read_text()
        lying = re.sub(rf"(def {wall}\(.*\n)", r"\1    return True\n", text)
        (tmp_path / f"{name}.py").write_text(lying)

    def start(command, scratch):
        return STARTERS["limits"]([str(tmp_path / Path(w).name) if w == child.__file__ else w for w in command], scratch)

    monkeypatch.setitem(STARTERS, "bwrap", start)
    with pytest.raises(RuntimeError, match=f"{reached} could be reached from inside"):
        Sandbox(backend="bwrap")


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'docker' is unknown"):
        Sandbox(backend="docker")
    with pytest.raises(ValueError, match="final_answer"):
        Sandbox(tools={"final_answer": print})


# --- nothing left behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", list(STARTERS))
def test_nothing_is_left_after_close(backend):
    try:
        box = open_box(backend=backend)
    except RuntimeError as error:
        pytest.skip(str(error))
    session = box.session()
    stray = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)"
    session.run(stray)
    session.try_each(["1"] * 3)
    processes = [psutil.Process(box._zygote.pid), *below(box._zygote.pid)]
    assert len(processes) >= 6
    box.close()
    box.close()
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    with pytest.raises(RuntimeError, match="ended"):
        session.try_each(["1"])
    with pytest.raises(RuntimeError, match="closed"):
        box.session()


def test_nothing_is_left_after_garbage_collection():
    box = open_box()
    box.session().run("1")
    processes = [psutil.Process(box._zygote.pid), *below(box._zygote.pid)]
    del box
    assert psutil.wait_procs(processes, timeout=5)[1] == []


def test_a_process_that_has_many_files_open_can_start_a_sandbox():
    with tempfile.TemporaryFile() as file:
        copies = []
        try:
            while not copies or copies[-1] < 1100:  # select.select ends at 1023
                copies.append(os.dup(file.fileno()))
            with open_box() as box:
                assert box.session().run("1 + 1").value == "2"
        finally:
            for fd in copies:
                os.close(fd)


def test_descriptors_do_not_pile_up_and_open_sessions_survive_renewal(monkeypatch):
    backend = "sandlock"
    monkeypatch.setitem(RENEWED_AFTER, backend, 20)
    try:
        box = open_box(backend=backend)
    except RuntimeError as error:
        pytest.skip(str(error))
    with box:
        kept = box.session()
        kept.run("x = 7")
        first, opened = box._zygote, []
        for _ in range(12):
            with box.session() as session:
                session.try_each(["1"] * 5)
            opened.append(len(os.listdir("/proc/self/fd")))
        assert box._zygote is not first and first.alive
        assert kept.run("x").value == "7", "its process is still there"
        assert max(opened[6:]) <= max(opened[:6]) + 25, opened  # two processes' worth at most, however many sessions
        kept.close()
        box.session()
        assert wait_until(lambda: not first.alive)


def test_nothing_is_left_when_this_program_is_killed():
    script = """
    import sys, time, warnings, threading
    warnings.simplefilter("ignore")
    from agentlib.sandbox import Sandbox
    box = Sandbox(seconds=60)
    session = box.session()
    session.run("1")
    threading.Thread(target=session.run, args=("import time; time.sleep(60)",), daemon=True).start()
    time.sleep(0.3)
    print(box._zygote.pid, flush=True)
    time.sleep(60)
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    started = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, cwd=root)
    pid = int(started.stdout.readline())
    processes = [psutil.Process(pid), *below(pid)]
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    started.stdout.close()


def test_death_of_the_zygote_is_reported_and_mended():
    with open_box() as box:
        session = box.session()
        session.run("x = 1")
        victim = psutil.Process(box._zygote.pid)
        threading.Timer(0.3, lambda: [p.kill() for p in [victim, *victim.children(recursive=True)]]).start()
        for code in ("import time; time.sleep(60)", "1"):
            with pytest.raises(SandboxLost, match="isolated process has ended"):
                session.run(code)
        assert wait_until(lambda: not box._zygote.alive)
        assert box.session().run("1 + 1").value == "2"
        with pytest.raises(RuntimeError, match="sessions are lost"):
            session.run("1")  # a lost state is not silently a fresh one, nor the code's failure
