"""The sandbox with real processes: every test starts interpreters and looks at what they did."""

import dataclasses
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import typing
import warnings
from pathlib import Path

import backends
import psutil
import pytest

from agentlib import sag
from agentlib.sandbox import Outcome, Sandbox, SandboxLost, isolation
from agentlib.sandbox import session as sandbox
from agentlib.sandbox.action import FailureKind
from agentlib.sandbox.inside import child
from agentlib.sandbox.inside import confinement as walls
from agentlib.sandbox.isolation import FORKS_BEFORE_RENEWAL, STARTERS

pytestmark = pytest.mark.isolation
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
        return Sandbox(
            **(
                {"tools": tools, "seconds": SECONDS, "memory_mb": 256, "backend": backend}
                | settings
            )
        )


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


@pytest.fixture(scope="module")
def roomy():
    """With the time and the memory that large values and large libraries need."""
    with open_box(seconds=60.0, memory_mb=2048) as opened:
        yield opened


@pytest.fixture
def session(box):
    with box.session() as opened:
        yield opened


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
    outcome = session.run(
        "import sys, os\nprint('one', file=sys.stderr)\n_ = os.write(1, b'two\\n')\n_ = os.write(2,"
        " b'three\\n')\nprint('four')"
    )
    assert (outcome.stdout, outcome.stderr) == ("two\nfour\n", "one\nthree\n")
    outcome = session.run(
        "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()"
    )
    assert outcome.stdout == "" and outcome.stderr.endswith("ZeroDivisionError: division by zero\n")


NOISE = {  # two codes that find the same and differ in what they say beside it
    "a warning's line": ("import numpy as np\nprint(np.log(np.zeros(1)))", "import numpy as np\n\n\nx = 1\nprint(np.log(np.zeros(1)))"),
    "progress": ("from tqdm import tqdm\nprint(sum(tqdm(range(3))))", "print(sum(range(3)))"),
    "a log": ("import logging\nlogging.warning('x')\nprint(3)", "print(3)"),
    "the action's folder": ("import os\nprint(os.getcwd())\nos.path.abspath('x')",) * 2,
    "a file of its own": ("f = open('x', 'w')\nprint(__import__('os').path.realpath('x'))",) * 2,
    "a scalar's type": ("import numpy as np\nprint([np.int64(1), np.float64(0.5)])\n(np.int64(2), 1)", "print([1, 0.5])\n(2, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOISE)
def test_what_is_no_result_is_not_compared(what, session):
    one, other = session.run_candidates(NOISE[what])
    assert one.failure is None and other.failure is None and one.stdout + one.value
    assert sag.groups([one, other]) == [0, 0], (one, other)


def test_a_warning_names_its_line_and_no_place_of_this_machine(session):
    code = (
        "import numpy as np\nnp.log(np.zeros(1))[0]\nnp.float64(1) / np.asarray(0)\nimport"
        " warnings\nwarnings.warn('mine')"
    )
    assert session.run(code).stderr.splitlines() == [
        "line 2: np.log(np.zeros(1))[0]",
        "RuntimeWarning: divide by zero encountered in log",
        "line 3: np.float64(1) / np.asarray(0)",
        "RuntimeWarning: divide by zero encountered in divide",
        "line 5: warnings.warn('mine')",
        "UserWarning: mine",
    ]
    library = (
        "import warnings, sympy\nwarnings.warn_explicit('old', UserWarning, sympy.__file__, 7)"
    )
    assert session.run(library).stderr == "UserWarning: old\n"


@pytest.mark.parametrize(("code", "shown"), [
    ("print('a\ud800b')", ("a?b\n", "", None)),
    ("print('a\\ud800b')", ("a?b\n", "", None)),
    ("'a\\ud800b'", ("", "'a\\ud800b'", None)),
    ("'\\ud800b'.center(3, '\\udfff')\nfinal_answer(['\\ud800', {'\\udfff': '\\ud83d\\ude00'}])", ("", "", ["?", {"?": "😀"}])),
    ("print(web_search('\\udfff', k=1))", ("['?']\n", "", None)),
    ("print('\ud83d'.upper() + 'é😀')", ("?é😀\n", "", None)),
])  # fmt: skip
def test_half_a_surrogate_pair_becomes_a_question_mark(session, code, shown):
    outcome = session.run(code)
    assert outcome.failure is None and (outcome.stdout, outcome.value, outcome.answer) == shown
    json.dumps(dataclasses.asdict(outcome), ensure_ascii=False).encode()


def test_half_a_surrogate_pair_in_an_error_or_a_tools_answer():
    with (
        open_box(tools={"odd": lambda: "\ud800", "bad": lambda: 1 / int("\ud800")}) as box,
        box.session() as session,
    ):
        assert session.run("print(odd())\nfinal_answer(odd())").answer == "?"
        printed = "import sys\nprint('\\ud800', file=sys.stderr)\n1/0"
        for outcome in session.run_candidates(["bad()", "raise ValueError('\\ud800')", printed]):
            assert outcome.failure.kind == "execution"
            json.dumps(dataclasses.asdict(outcome), ensure_ascii=False).encode()


def test_syntax_error_is_a_parse_failure_and_runs_nothing(session):
    outcome = session.run("print('never')\nx = = 3")
    assert outcome.failure.kind == "parse" and outcome.stdout == ""
    assert "line 2" in outcome.failure.message and "SyntaxError" in outcome.failure.message
    for code in ("return 1", "x\0y", "(" * 500, "é" + "\ud800"):
        assert session.run(code).failure.kind == "parse", code


def test_an_error_names_no_place_of_this_machine(session):
    message = session.run("from json import nothing_such").failure.message
    assert message.endswith(
        "ImportError: cannot import name 'nothing_such' from 'json' (json/__init__.py)"
    )
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


KINDS = {  # one code for each kind of failure that the sandbox itself gives
    "parse": "x = = 3",
    "execution": "1 / 0",
    "timeout": "while True: pass",
    "memory": "x = [0] * 10**10",
    "forbidden": "open('/etc/passwd')",
    "killed": "import os\nos._exit(0)",
}


def test_every_kind_of_failure_is_declared_and_happens(session):
    outcomes = session.run_candidates(list(KINDS.values()))
    assert [outcome.failure.kind for outcome in outcomes] == list(KINDS)
    assert set(KINDS) == set(typing.get_args(FailureKind))


# --- the final answer -------------------------------------------------------------------------------------------


def test_final_answer_stops_the_code_and_passes_except_exception(session):
    outcome = session.run(
        "try:\n    final_answer(42)\nexcept Exception:\n    print('caught')\nprint('after')"
    )
    assert (
        outcome.is_final
        and outcome.answer == 42
        and outcome.stdout == ""
        and outcome.failure is None
    )


def test_final_answer_wins_over_what_follows_a_bare_except(session):
    outcome = session.run("try:\n    final_answer('first')\nexcept:\n    1 / 0")
    assert outcome.is_final and outcome.answer == "first" and outcome.failure is None


def test_final_answer_survives_being_overwritten(session):
    session.run("final_answer = 3\nprint = None")
    assert session.run("final_answer(final_answer is not None)").answer is True


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("final_answer", "'final_answer', which is a method"),
        ("len", "'len', which is a builtin_function_or_method"),
        ("lambda: 3", "'<lambda>', which is a function"),
        ("int", "'int', which is a type"),
        ("math", "'math', which is a module"),
    ],
)
def test_what_is_no_value_is_no_answer(box, given, kind):
    with box.session() as session:
        outcome = session.run(f"import math\nfinal_answer({given})")
        assert not outcome.is_final and outcome.failure.kind == "execution"
        assert "takes the answer itself" in outcome.failure.message
        assert kind in outcome.failure.message
        assert session.run("final_answer(math.floor(3.5))").answer == 3


ANSWERS = [  # an expression, and the plain value that a reader takes it for
    ("np.float64(2.5)", 2.5), ("np.int32(7)", 7), ("np.bool_(True)", True), ("np.str_('a')", "a"), ("np.longdouble(0.5)", 0.5),
    ("np.arange(4).reshape(2, 2)", [[0, 1], [2, 3]]), ("np.array(3)", 3), ("[np.int64(1), (np.float64(2.5), {np.int64(3)})]", [1, [2.5, [3]]]),
    ("{np.int64(1): np.float64(0.5)}", {"1": 0.5}), ("np.datetime64('2024-05-01')", "2024-05-01"),
    ("np.array(['2024-05-01'], dtype='datetime64[ns]')", ["2024-05-01T00:00:00.000000000"]),
    ("sympy.Rational(1, 3)", "1/3"), ("sympy.sqrt(8)", "2*sqrt(2)"), ("sympy.Integer(6)", 6), ("sympy.Float(2.5)", 2.5),
    ("sympy.pi.evalf()", 3.141592653589793), ("sympy.pi.evalf(30)", "3.14159265358979323846264338328"), ("sympy.oo", "oo"),
    ("sympy.solve(x**2 - 4)", [-2, 2]), ("sympy.solve(x - 3, x, dict=True)", [{"x": 3}]), ("sympy.solveset(x**2 - 4)", [-2, 2]),
    ("sympy.Interval(0, 1)", "Interval(0, 1)"), ("sympy.Matrix([[1, 2], [3, 4]])", [[1, 2], [3, 4]]), ("sympy.Tuple(1, x)", [1, "x"]),
    ("Fraction(3, 9)", "1/3"), ("Fraction(4, 2)", 2), ("Decimal('2.50')", "2.50"), ("1 + 2j", "(1+2j)"), ("10**5000", "1" + "0" * 5000),
    ("{3, 1, 2}", [1, 2, 3]), ("{10, 9}", [9, 10]), ("frozenset('ba')", ["a", "b"]), ("{1, 'a'}", ["a", 1]), ("set()", []),
    ("range(1, 4)", [1, 2, 3]), ("{1: 'a'}", {"1": "a"}), ("{(1, 2): 3}", {"(1, 2)": 3}), ("{1: 'a'}.keys()", [1]), ("{1: 'a'}.values()", ["a"]),
    ("{1: 'a'}.items()", [[1, "a"]]), ("(n * n for n in range(3))", [0, 1, 4]), ("map(str, [1, 2])", ["1", "2"]), ("zip('ab', [1, 2])", [["a", 1], ["b", 2]]),
    ("reversed([1, 2])", [2, 1]), ("collections.deque([1])", [1]), ("collections.Counter('aab')", {"a": 2, "b": 1}), ("collections.defaultdict(int, a=1)", {"a": 1}),
    ("Place('Rome', [np.int64(2)])", {"name": "Rome", "years": [2]}), ("Colour.RED", "RED"), ("array.array('i', [1])", [1]),
    ("b'Rome'", "Rome"), ("bytearray(b'Rome')", "Rome"), ("datetime.date(2024, 5, 1)", "2024-05-01"), ("datetime.datetime(2024, 5, 1, 12)", "2024-05-01 12:00:00"),
    ("datetime.timedelta(days=2)", "2 days, 0:00:00"), ("float('nan')", "nan"), ("[float('-inf'), np.inf]", ["-inf", "inf"]), ("None", None), ("'\\ud800'", "?"),
    ("pd.Series([1, 2])", [1, 2]), ("pd.Series([1, 2, 3])[[0, 2]]", [1, 3]), ("pd.Series(['a', 'a']).value_counts()", {"a": 2}),
    ("pd.DataFrame({'y': [2020, 2020], 'n': [1, 2]}).groupby('y').n.sum()", {"2020": 3}), ("pd.Series([1.5, None])", [1.5, "nan"]),
    ("pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]), ("pd.Index([1, 2])", [1, 2]), ("pd.NaT", None),
    ("pd.DataFrame({'a': [1]}, index=['r'])", [{"index": "r", "a": 1}]), ("pd.Timestamp('2024-05-01')", "2024-05-01 00:00:00"), ("pd.NA", None),
]  # fmt: skip


def test_answers_become_plain(roomy):
    prepared = """
    import array, collections, dataclasses, datetime, enum, sympy, numpy as np, pandas as pd
    from decimal import Decimal; from fractions import Fraction
    x = sympy.Symbol("x")
    Colour = enum.Enum("Colour", "RED")
    @dataclasses.dataclass
    class Place:
        name: str
        years: list
    """
    with roomy.session() as session:
        assert session.run(textwrap.dedent(prepared)).failure is None
        codes = [f"final_answer({expression})" for expression, _ in ANSWERS]
        outcomes = session.run_candidates(codes)
    wrong = [
        (expression, expected, outcome.answer, outcome.failure)
        for (expression, expected), outcome in zip(ANSWERS, outcomes, strict=True)
        if repr(outcome.answer) != repr(expected) or not outcome.is_final
    ]
    assert wrong == []


def test_an_answer_without_an_end_or_that_fails_is_the_codes_fault(session):
    assert session.run("final_answer(1 / n for n in (1, 0))").failure.message.endswith(
        "ZeroDivisionError: division by zero"
    )
    assert session.run("import itertools\nfinal_answer(itertools.repeat(1))").failure.kind in (
        "timeout",
        "memory",
    )


# --- tools ------------------------------------------------------------------------------------------------------


def test_tool_is_asked_once_for_equal_arguments_in_a_step(session, search):
    search.asked.clear()
    codes = ["print(web_search('rome'))"] * 4 + ["print(web_search('oslo'))"]
    outcomes = session.run_candidates(codes)
    assert [o.stdout for o in outcomes] == ["['ROME']\n"] * 4 + ["['OSLO']\n"]
    assert sorted(search.asked) == ["oslo", "rome"]
    assert all(len(o.tool_calls) == 1 for o in outcomes)
    session.run_candidates(codes[:1])
    assert search.asked.count("rome") == 2, "the next step asks again"


def test_tool_error_can_be_seen_and_caught(session):
    failure = session.run("web_search('fail')").failure
    assert failure.kind == "execution"
    assert failure.message.endswith(
        "RuntimeError: web_search failed: LookupError: no index is loaded"
    )
    assert (
        session.run(
            "try:\n    web_search()\nexcept RuntimeError as e:\n    print('TypeError' in str(e))"
        ).stdout
        == "True\n"
    )


def test_bad_tool_arguments_are_a_type_error(session, search):
    search.asked.clear()
    for odd in ("object()", "b'x'", "k=[print]", "open", "{'a': 1j.conjugate}"):
        outcome = session.run(f"web_search({odd})")
        assert "TypeError: web_search() takes plain values" in outcome.failure.message, odd
        assert outcome.tool_calls == [] and search.asked == []


# an expression, and what a tool is given for it, or what the code gets if a tool returns it
SENT = [
    ("np.int64(3)", 3), ("np.str_('a')", "a"), ("np.arange(2)", [0, 1]), ("[np.float64(0.5)]", [0.5]), ("{'a': np.bool_(True)}", {"a": True}),
    ("{2, 1}", [1, 2]), ("range(2)", [0, 1]), ("{1: 2}.keys()", [1]), ("(1, 2)", [1, 2]), ("sympy.Integer(2)", 2), ("Fraction(1, 3)", "1/3"),
    ("datetime.date(2024, 5, 1)", "2024-05-01"), ("float('inf')", float("inf")), ("pd.Series([1, 2])", [1, 2]),
]  # fmt: skip


def test_values_to_and_from_tools_become_plain():
    kept, names = [], {}
    imported = "import datetime, sympy, numpy as np, pandas as pd\nfrom fractions import Fraction"
    exec(imported, names)
    with (
        open_box(
            tools={"keep": kept.append, "give": lambda text: eval(text, names)}, seconds=20.0
        ) as box,
        box.session() as session,
    ):
        session.run(imported)
        got = [session.run(f"keep({text})\ngive({text!r})").value for text, _ in SENT]
    assert kept == [plain for _, plain in SENT] and got == [repr(plain) for _, plain in SENT]


def test_a_tool_that_returns_no_plain_value_is_an_error():
    with open_box(tools={"give": lambda: print}) as box, box.session() as session:
        message = session.run("give()").failure.message
        assert message.endswith(
            "give failed: TypeError: it returned a builtin_function_or_method, expected plain"
            " values (text, numbers, lists, dicts)"
        )
    with pytest.raises(ValueError, match=r"tool 'table' is \{\}, expected a function"):
        open_box(tools={"table": {}})


OVERSIZE = {  # code, the kind of failure that is right
    "code": (f"x = '{'a' * 5_000_000}'", "parse"),
    "code that is long as JSON": (f"x = '{'é' * 900_000}'", "parse"),
    "code that is nearly too long": (f"x = '{'a' * 4_100_000}'", None),
    "printed": ("print('a' * 50_000_000)", None),
    "printed to standard error": ("import sys\nprint('a' * 50_000_000, file=sys.stderr)", None),
    "a value": ("'a' * 50_000_000", None),
    "an answer": ("final_answer('é' * 9_000_000)", None),
    "an answer in parts": ("final_answer({str(n): 'é' * 9 for n in range(300_000)})", None),
    "an error's words": ("raise ValueError('é' * 9_000_000)", "execution"),
    "an error's name": ("raise type('E' * 9_000_000, (Exception,), {})", "execution"),
    "a function's name": (f"def {'f' * 3_000_000}(): 1 / 0\n{'f' * 900_000} = 1\nnext(v for k, v in list(globals().items()) if len(k) > 10**6)()", "execution"),
    "a tool's argument": ("web_search('a' * 9_000_000)", "execution"),
    "a tool's answer": ("web_search('a' * 2_000_000, k=5)", "execution"),
    "a warning": ("import warnings\nwarnings.warn('a' * 50_000_000)", None),
}  # fmt: skip


@pytest.mark.parametrize("what", OVERSIZE)
def test_what_is_too_large_is_refused_or_cut_and_the_session_goes_on(what, roomy):
    code, kind = OVERSIZE[what]
    with roomy.session() as session:
        session.run("kept = 5")
        outcome = session.run(code)
        assert (outcome.failure and outcome.failure.kind) == kind, (
            outcome.failure,
            outcome.stdout[:99],
        )
        assert len(repr(dataclasses.replace(outcome, tool_calls=[]))) < 500_000
        assert session.run("kept").value == "5"


def test_code_that_is_too_long_is_a_parse_failure(session):
    outcome = session.run("x = 1 #" + "a" * 5_000_000)
    assert outcome.failure.message.startswith(
        "the code is too long: it has 5000"
    ) and outcome.failure.message.endswith("write less code")


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
    add = (
        "items.append({0})\nimport {1}\nprint(items, random.random(), 'wave' in"
        " __import__('sys').modules)"
    )
    modules = ("wave", "json", "json")
    outcomes = session.run_candidates([add.format(n, module) for n, module in enumerate(modules)])
    drawn = "0.32383276483316237"  # random.Random(7).random()
    assert [o.stdout for o in outcomes] == [f"[0, {n}] {drawn} {n == 0}\n" for n in range(3)]
    assert session.run_candidates(["items"])[0].value == "[0]", "nothing is kept without a commit"


def test_winner_goes_on_without_running_again(session, search):
    search.asked.clear()
    outcomes = session.run_candidates(["n = 1; web_search('one')", "n = 2; web_search('two')"])
    session.commit(outcomes[1])
    assert session.run("n += 40\nn").value == "42"
    assert sorted(search.asked) == ["one", "two"]


def test_what_a_winner_wrote_is_kept_and_what_a_loser_wrote_is_not(session):
    session.run(
        "kept = open('notes.txt', 'w')\n_ = kept.write('one ')\nimport os; os.mkdir('sub');"
        " os.symlink('notes.txt', 'link')"
    )
    codes = [
        "_ = kept.write(f'{n} '); kept.flush(); open('sub/n', 'w').write('{n}')".replace("{n}", n)
        for n in "23"
    ]
    outcomes = session.run_candidates([*codes, "open('notes.txt').read()"])
    assert [o.failure for o in outcomes] == [None] * 3, outcomes
    session.commit(outcomes[1])
    assert (
        session.run("open('link').read(), open('sub/n').read(), sorted(os.listdir())").value
        == "('one 3 ', '3', ['link', 'notes.txt', 'sub'])"
    )


def test_the_place_in_an_open_file_is_each_candidates_own(session):
    session.run(
        "_ = open('lines', 'w').write('a\\nb\\nc\\n')\nimport os\nf = os.open('lines',"
        " os.O_RDONLY)\n_ = os.read(f, 2)"
    )
    assert [o.value for o in session.run_candidates(["os.read(f, 2)"] * 3)] == ["b'b\\n'"] * 3


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
        codes = [
            f"{tell}\nimport time; time.sleep(0.3)",
            f"import time; time.sleep(0.15)\n{listen}",
        ]
        told, heard = session.run_candidates(codes)
        assert "x" not in heard.stdout, (told, heard)
        assert session.run("40 + 2").value == "42"


def test_an_open_figure_of_a_loser_is_not_the_winners(roomy):
    with roomy.session() as session:
        assert (
            session.run(
                "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt"
            ).failure
            is None
        )
        outcomes = session.run_candidates(["plt.figure(); plt.plot([1, 2])", "1"])
        session.commit(outcomes[1])
        assert session.run("plt.get_fignums()").value == "[]"
        assert (
            session.run(
                "plt.plot([1, 2]); plt.savefig('f.png'); import os; os.path.getsize('f.png') > 1000"
            ).value
            == "True"
        )


@pytest.mark.parametrize(
    "flood",
    [
        (
            "while True:\n    with open(f'{len(__import__(\"os\").listdir())}', 'wb') as f:"
            " f.write(bytes(1 << 22))"
        ),
        "n = 0\nwhile True:\n    n += 1\n    open(f'file{n}', 'w').close()",
        "import os\nwhile True:\n    os.mkdir('d'); os.chdir('d')",
        "f = open('one', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    ],
)
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
            asked.run(
                "try:\n    web_search('x')\nexcept BaseException:\n    final_answer('I guess')"
            )
        assert asked.run("1 + 1").value == "2", "the session is usable when the tool is back"


def test_a_candidate_that_finds_no_process_left_is_tried_again(caplog, monkeypatch):
    """One candidate's fork bomb is not another's failure: those that find no process left wait
    for its end."""
    caplog.set_level("INFO", logger="agentlib")
    monkeypatch.setattr(isolation, "MAX_PROCESSES", 40)
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    # until none is left
    scout = "import os\ntry:\n    while True: os.fork() or os._exit(0)\nexcept OSError: pass"
    with open_box(seconds=3.0, workers=2) as box, box.session() as session:
        if "the number of processes is limited" in box.protection.lacks:
            pytest.skip(f"{box.protection.backend} does not limit the number of processes")
        outcomes = session.run_candidates([bomb, scout, *["6 * 7"] * 4])
    assert outcomes[0].failure is not None and [o.value for o in outcomes[2:]] == ["42"] * 4, (
        outcomes
    )
    assert "an action could not begin" in caplog.text


@pytest.mark.full
def test_an_isolated_process_that_cannot_fork_is_replaced(monkeypatch):
    monkeypatch.setattr(isolation, "MAX_PROCESSES", 40)
    monkeypatch.setattr(sandbox, "GRACE_SECONDS", 0.5)
    asleep = (
        "import os, time\ntry:\n    while os.fork(): pass\nexcept OSError: pass\ntime.sleep(60)"
    )
    with open_box() as box:
        if "the number of processes is limited" in box.protection.lacks:
            pytest.skip(f"{box.protection.backend} does not limit the number of processes")
        with box.session() as session:
            session.run(asleep)
            with pytest.raises(
                RuntimeError, match=r"could start no interpreter; .*; open new sessions"
            ):
                session.run_candidates(["1"] * 8)
        assert wait_until(lambda: not box._zygote.alive)
        assert box.session().run("6 * 7").value == "42"


def test_losers_end(box, session):
    outcomes = session.run_candidates(["1"] * 6)
    before = len(below(box._zygote.pid))
    session.commit(outcomes[2])
    assert wait_until(lambda: len(below(box._zygote.pid)) <= before - 5)


def test_a_step_can_be_discarded(box, session):
    session.run("x = 1")
    before = len(below(box._zygote.pid))
    outcome = session.run_candidates(["x = 2"])[0]
    session.discard()
    assert (
        wait_until(lambda: len(below(box._zygote.pid)) == before) and session.run("x").value == "1"
    )
    with pytest.raises(ValueError, match="last run_candidates"):
        session.commit(outcome)


def test_only_the_last_step_can_be_committed_once(box, session):
    first = session.run("1")
    second = session.run_candidates(["2"])[0]
    for old in (first, Outcome()):
        with pytest.raises(ValueError, match="last run_candidates"):
            session.commit(old)
    with box.session() as other, pytest.raises(ValueError, match="last run_candidates"):
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
    results = box.run_batch([(s, [f"n = {i}", f"n = -{i}"]) for i, s in enumerate(sessions)])
    for s, outcomes in zip(sessions, results, strict=True):
        s.commit(outcomes[0])
    again = box.run_batch([(s, ["n"]) for s in sessions])
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
        "import os, json, time, random, builtins\nos.write = os.fork = json.dumps = random.getstate"
        " = time.time = None"
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
    outcomes = session.run_candidates([*loops, "x"])
    assert time.monotonic() - began < 2.5 * SECONDS + 1
    assert [o.failure and o.failure.kind for o in outcomes] == ["timeout"] * 3 + [None]
    assert outcomes[0].stdout == "on\n" and outcomes[3].value == "5"
    session.commit(outcomes[0])
    assert session.run("x").value == "5"


def test_timeout_takes_the_actions_own_processes_along(box, session):
    before = len(below(box._zygote.pid))
    code = (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)"
    )
    assert session.run(code).failure.kind == "timeout"
    assert wait_until(lambda: len(below(box._zygote.pid)) <= before)


@pytest.mark.parametrize(
    "bomb",
    [
        "x = [0] * 10**10",
        "s = []\nwhile True: s.append('x' * 10**6)",
        "import numpy as np\nnp.ones(10**10)",
    ],
)
def test_memory_bomb(session, bomb):
    session.run("x = 'kept'")
    failure = session.run(bomb).failure
    assert failure.kind == "memory" and "MemoryError" in failure.message
    assert session.run("x").value == "'kept'"


def test_endless_output_is_cut(session):
    outcome = session.run("for _ in range(200_000): print('y' * 100)\n'end'")
    assert (
        outcome.value == "'end'"
        and 20_000 <= len(outcome.stdout) < 20_200
        and "cut" in outcome.stdout[-60:]
    )


@pytest.mark.parametrize(
    "end",
    [
        "os._exit(0)",
        "os.kill(os.getpid(), 9)",
        "import ctypes; ctypes.string_at(0)",
        "os.closerange(3, 200)",
    ],
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
        "import os\npid = os.fork()\nif pid: _ = os.waitpid(pid, 0)\nx = 'parent' if pid else"
        " 'child'\nx"
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
    honest = ["import time; time.sleep(0.3); 'honest'", "'me too'"]
    outcomes = session.run_candidates([textwrap.dedent(forge), *honest])
    assert [o.value for o in outcomes[1:]] == ["'honest'", "'me too'"]
    garbage = (
        "import os\nfor fd in range(3, 256):\n    try: os.write(fd, b'C' * 4000)\n    except"
        " OSError: pass"
    )
    assert session.run(garbage).failure.kind == "killed"
    assert session.run("1").value == "1"


# --- isolation --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=backends.BACKENDS)
def walled(request):
    with open_box(backend=getattr(backends, request.param)()) as opened:
        yield opened


def test_files_and_network_are_out_of_reach(walled, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    with walled.session() as session:
        reads = [
            f"print(open({str(path)!r}).read())"
            for path in (secret, __file__, "/etc/passwd", "/proc/1/environ")
        ]
        writes = [
            f"open({str(tmp_path / 'new')!r}, 'w')",
            "open('../here.txt', 'w')",
            f"import os; os.mkdir({str(tmp_path / 'd')!r})",
        ]
        nets = [
            "import socket; socket.create_connection(('127.0.0.1', 22), 1)",
            "import urllib.request; urllib.request.urlopen('http://example.com', timeout=1)",
        ]
        for outcome in session.run_candidates(reads + writes + nets):
            assert outcome.failure and outcome.failure.kind in ("forbidden", "execution"), outcome
            assert outcome.stdout == ""
        refused = session.run_candidates([*reads, *writes, nets[1]])
        if walled.protection.backend == "sandlock":
            assert {o.failure.kind for o in refused} == {"forbidden"}
        assert session.run("import os; dict(os.environ)").value == "{'HOME': '.'}"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


STANDARD = {  # what models write and libraries look up; none of it may meet a wall
    "time zones": "from zoneinfo import ZoneInfo\nfrom datetime import datetime\ndatetime(2024, 1, 1, tzinfo=ZoneInfo('Asia/Tokyo')).isoformat()",
    "time zones that are not": "import zoneinfo\ntry:\n    zoneinfo.ZoneInfo('No/Where')\nexcept zoneinfo.ZoneInfoNotFoundError: pass",
    "all time zones": "import zoneinfo\nassert len(zoneinfo.available_timezones()) > 300",
    "pandas' time zones": "import pandas as pd\npd.Timestamp('2024-01-01', tz='UTC').tz_convert('America/New_York')",
    "babel's time zones": "import babel.dates\nbabel.dates.get_timezone('Asia/Tokyo'), babel.dates.get_timezone()",
    "dateutil's": "from dateutil import tz\nassert tz.gettz('Asia/Tokyo')",
    "local time": "import datetime, time\ntime.tzset()\ndatetime.datetime.now().astimezone()",
    "locales": "import locale\nlocale.setlocale(locale.LC_ALL, '')\ntry:\n    locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')\nexcept locale.Error: pass",
    "translations": "import gettext\ngettext.translation('x', fallback=True)",
    "file types": "import mimetypes\nassert mimetypes.guess_type('a.png')[0] == 'image/png'",
    "certificates": "import ssl\nssl.create_default_context()",
    "a home": "import os\nfrom pathlib import Path\nPath.home().joinpath('x').write_text('y')\nassert os.path.exists(os.path.expanduser('~/x'))",
    "a user": "import getpass\ntry:\n    getpass.getuser()\nexcept (KeyError, OSError): pass",
    "the machine": "import os, platform\nplatform.platform(), platform.processor(), os.cpu_count(), os.getloadavg()",
    "memory": "import psutil\npsutil.virtual_memory(), psutil.cpu_count()",
    "numbers": "import uuid, secrets\nuuid.uuid1(), secrets.token_hex()",
    "numpy's set-up": "import numpy as np\nnp.show_config(mode='dicts')",
    "sympy": "from sympy import *\nx = symbols('x')\nsolve(x**2 - 2), integrate(sin(x), x), lambdify(x, sin(x), 'numpy')(1.0)",
    "files": "import pandas as pd, sqlite3, zipfile\npd.DataFrame({'a': [1]}).to_csv('a.csv')\npd.read_csv('a.csv')\nsqlite3.connect('a.db').execute('create table a (b)')",
    "temporary files": "import tempfile\nwith tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile() as f: open(d + '/x', 'w')",
    "an event loop": "import asyncio\nasyncio.run(asyncio.sleep(0))",
    "threads": "from concurrent.futures import ThreadPoolExecutor as T\nwith T(2) as t: list(t.map(abs, [1]))",
    "packages": "from importlib import metadata\nmetadata.version('numpy')\nlist(metadata.distributions())",
    "sources": "import inspect, json\ninspect.getsource(json.dumps)",
    "a name": "import requests\ntry:\n    requests.get('http://example.com', timeout=1)\nexcept requests.ConnectionError: pass",
    "fonts": "import matplotlib.pyplot as plt, matplotlib.font_manager as m\nm.findSystemFonts()\nplt.title('Ü $x^2$', family='DejaVu Sans')\nplt.savefig('a.png')",
}  # fmt: skip


def test_what_libraries_look_up_meets_no_wall(walled):
    with (
        open_box(backend=walled.protection.backend, seconds=60.0, memory_mb=2048) as box,
        box.session() as session,
    ):
        outcomes = dict(zip(STANDARD, session.run_candidates(list(STANDARD.values())), strict=True))
    assert {
        what: outcome for what, outcome in outcomes.items() if outcome.failure or outcome.stderr
    } == {}


def test_processes_outside_and_beside_are_out_of_reach(walled):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with walled.session() as session:
            assert session.run(f"import os; os.kill({bystander.pid}, 9)").failure
            assert session.run("import os; os.kill(os.getppid(), 9)").failure, (
                "the process that holds the state"
            )
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
    with (
        pytest.warns(UserWarning, match=r"NOT FULLY ISOLATED.*second wall"),
        Sandbox(backend="limits") as box,
    ):
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


@pytest.mark.parametrize(
    ("wall", "reached"), [("apply_landlock", "files"), ("apply_seccomp", "network")]
)
def test_a_missing_wall_is_detected(monkeypatch, tmp_path, wall, reached):
    for name in ("child", *child.FILES):
        text = Path(child.__file__).with_name(f"{name}.py").read_text()
        lying = re.sub(rf"(def {wall}\(.*\n)", r"\1    return True\n", text)
        (tmp_path / f"{name}.py").write_text(lying)

    def start(command, scratch):
        return STARTERS["limits"](
            [str(tmp_path / Path(w).name) if w == child.__file__ else w for w in command], scratch
        )

    monkeypatch.setitem(STARTERS, "bwrap", start)
    with pytest.raises(RuntimeError, match=f"{reached} could be reached from inside"):
        Sandbox(backend="bwrap")


HEADERS = [
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm-generic/unistd.h"),
]


@pytest.mark.parametrize("column", [0, 1], ids=walls.MACHINES)
def test_refused_calls_have_the_kernels_numbers(column):
    """The headers know the calls of their own kernel; later ones they cannot contradict."""
    if not HEADERS[column].exists():
        pytest.skip(f"the kernel's headers are not installed ({HEADERS[column]})")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[column].read_text())
    known = {name: int(number) for name, number in defined}
    ours: dict[str, tuple] = {}
    for calls in walls.REFUSED_CALLS.values():
        ours |= calls
    ours |= {name: numbers for name, numbers, *_ in walls.REFUSED_ARGUMENTS.values()}
    ours["clone3"] = walls.CLONE3
    newest = max(number for name, number in known.items() if name != "syscalls")
    expected = {name: known.get(name) for name in ours}
    for name, numbers in ours.items():
        if (numbers[column] or 0) > newest:
            expected[name] = numbers[column]
    assert {name: numbers[column] for name, numbers in ours.items()} == expected


def run_filter(column, number, arguments, architecture=None):
    """What the filter of a machine decides on a call: the error, 0 if it is allowed."""
    own = list(walls.MACHINES.values())[column][0]
    words = struct.pack("=IIQ6Q", number, architecture or own, 0, *arguments)
    program, at, loaded = walls.seccomp_program(own, column), 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        if code == 0x06:
            return 0 if operand == 0x7FFF0000 else operand & 0xFFFF
        if code == 0x20:
            (loaded,) = struct.unpack_from("=I", words, operand)
            at += 1
        else:
            tests = {0x15: loaded == operand, 0x35: loaded >= operand, 0x45: bool(loaded & operand)}
            at += 1 + (if_true if tests[code] else if_false)


CALLS = [  # what, numbers on x86-64 and arm64, four arguments, the error
    ("write", (1, 64), (1, 0, 0, 0), 0), ("kill", (62, 129), (1, 9, 0, 0), 0),
    ("socket", (41, 198), (2, 1, 0, 0), 1), ("ptrace", (101, 117), (0, 0, 0, 0), 1),
    ("file_setattr", (469, 469), (0, 0, 0, 0), 1), ("clone3", (435, 435), (0, 88, 0, 0), 38),
    ("mmap, private", (9, 222), (0, 4096, 3, 0x22), 0),
    ("mmap, shared", (9, 222), (0, 4096, 3, 0x21), 1),
    ("mmap, shared and validated", (9, 222), (0, 4096, 3, 0x03), 1),
    ("its own limits", (302, 261), (0, 9, 0, 0), 0),
    ("another process's limits", (302, 261), (7, 9, 0, 0), 1),
    ("limits of process -1", (302, 261), (2**64 - 1, 9, 0, 0), 1),
    ("fork", (56, 220), (0x01200011, 0, 0, 0), 0),
    ("thread", (56, 220), (0x003D0F00, 0, 0, 0), 0),
    ("user namespace", (56, 220), (0x10000011, 0, 0, 0), 1),
    ("network namespace", (56, 220), (0x40000011, 0, 0, 0), 1),
    ("is it a terminal", (16, 29), (1, 0x5401, 0, 0), 0),
    ("file flags", (16, 29), (3, 0x40086602, 0, 0), 1),
    ("extended file flags", (16, 29), (3, 0x401C5820, 0, 0), 1),
]  # fmt: skip


@pytest.mark.parametrize("column", [0, 1], ids=walls.MACHINES)
def test_the_filter_decides_by_call_and_argument(column):
    for name, numbers, arguments, error in CALLS:
        assert run_filter(column, numbers[column], (*arguments, 0, 0)) == error, name
    assert run_filter(column, 64, (0,) * 6, architecture=0x40000003) == 1, "32-bit programs"
    assert run_filter(column, 0x40000001, (0,) * 6) == 1, "x32 programs"


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'docker' is unknown"):
        Sandbox(backend="docker")
    with pytest.raises(ValueError, match="final_answer"):
        Sandbox(tools={"final_answer": print})


# --- nothing left behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [*backends.BACKENDS, "limits"])
def test_nothing_is_left_after_close(which):
    box = open_box(backend=which if which == "limits" else getattr(backends, which)())
    session = box.session()
    stray = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)"
    session.run(stray)
    session.run_candidates(["1"] * 3)
    processes = [psutil.Process(box._zygote.pid), *below(box._zygote.pid)]
    assert len(processes) >= 6
    box.close()
    box.close()
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    with pytest.raises(RuntimeError, match="ended"):
        session.run_candidates(["1"])
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
    monkeypatch.setitem(FORKS_BEFORE_RENEWAL, backend, 20)
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
                session.run_candidates(["1"] * 5)
            opened.append(len(os.listdir("/proc/self/fd")))
        assert box._zygote is not first and first.alive
        assert kept.run("x").value == "7", "its process is still there"
        # two processes' worth at most, however many sessions
        assert max(opened[6:]) <= max(opened[:6]) + 25, opened
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
    started = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, cwd=root
    )
    pid = int(started.stdout.readline())
    processes = [psutil.Process(pid), *below(pid)]
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    started.stdout.close()


@pytest.mark.parametrize(
    "broken", [KeyError("NSpid"), pytest.param(MemoryError(), marks=pytest.mark.full)]
)
def test_a_failing_reader_is_reported_and_replaced(monkeypatch, broken):
    with open_box() as box, box.session() as session:
        session.run("x = 1")
        processes = [psutil.Process(box._zygote.pid), *below(box._zygote.pid)]
        with monkeypatch.context() as patched:

            def fail(pid):
                raise broken

            patched.setattr(isolation, "_ids_inside", fail)
            with pytest.raises(
                RuntimeError,
                match=f"reading from it failed: {type(broken).__name__}.*open new sessions",
            ):
                session.run("import time; time.sleep(1.4)\nwhile True: pass")
        assert psutil.wait_procs(processes, timeout=5)[1] == []
        with pytest.raises(RuntimeError, match="reading from it failed"):
            session.run("1")
        assert box.session().run("1 + 1").value == "2"


@pytest.mark.parametrize(
    "status", ["Name:\tx\nPid:\t7\n", "Name:\t\udcff\nNSpid:\t70\t7\nNSpgid:\t70\t7\n"]
)
def test_a_process_is_known_whatever_its_status_says(monkeypatch, tmp_path, status):
    (tmp_path / "status").write_text(status, errors="surrogateescape")
    monkeypatch.setattr(isolation, "Path", lambda path: tmp_path / "status")
    monkeypatch.setattr(isolation.os, "getpgid", lambda pid: 7)
    assert isolation._ids_inside(7) == (7, 7)


def test_death_of_the_isolated_process_is_reported_and_replaced():
    with open_box() as box:
        session = box.session()
        session.run("x = 1")
        victim = psutil.Process(box._zygote.pid)
        threading.Timer(0.3, victim.kill).start()
        for code in ("import time; time.sleep(60)", "1"):
            with pytest.raises(SandboxLost, match="isolated process has ended"):
                session.run(code)
        assert wait_until(lambda: not box._zygote.alive)
        assert box.session().run("1 + 1").value == "2"
        with pytest.raises(RuntimeError, match="sessions are lost"):
            session.run("1")  # a lost state is not silently a fresh one, nor the code's failure
