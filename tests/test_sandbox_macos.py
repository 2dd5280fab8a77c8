"""The backend of macOS, on Linux: its profile and command as text, its refusals, and the session
behind it with a stand-in for `sandbox-exec` that runs the command without any profile."""

import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from agentlib.sandbox import Sandbox, isolation, session
from agentlib.sandbox.isolation import AUTOMATIC, MACOS_BACKEND, STARTERS, macos_profile

STAND_IN = """\
#!/bin/sh
[ "$1" = -p ] || exit 64
printf '%s' "$2" > "$(dirname "$0")/profile"
shift 2
exec "$@"
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Path:
    """A program `sandbox-exec`, first on PATH; it notes the profile that it was given."""
    program = tmp_path / "sandbox-exec"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


@pytest.fixture
def on_macos(monkeypatch) -> None:
    """The sandbox takes this system for macOS; nothing else does."""
    monkeypatch.setattr(session, "sys", types.SimpleNamespace(platform="darwin"))


def rules(profile: str) -> list[list]:
    """A profile as nested lists, the way its reader sees it; AssertionError if it is malformed."""
    tokens = re.findall(r'\(|\)|"(?:[^"\\]|\\.)*"|[^\s()"]+', profile)
    stack: list[list] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            last = stack.pop()
            stack[-1].append(last)
        else:
            stack[-1].append(token)
    assert len(stack) == 1
    return stack[0]


def test_the_profile_closes_network_and_files_and_its_last_rules_open_what_is_needed():
    profile = macos_profile(
        "/private/var/folders/x/agentlib-1", ["/opt/py"], ["/Users", "/private/tmp"]
    )
    found = rules(profile)
    assert found[:4] == [
        ["version", "1"],
        ["allow", "default"],
        ["deny", "network*"],
        ["deny", "file-write*"],
    ]
    scratch = ["subpath", '"/private/var/folders/x/agentlib-1"']
    assert found[4] == ["allow", "file-write*", scratch, ["literal", '"/dev/null"']]
    private = [["subpath", '"/Users"'], ["subpath", '"/private/tmp"']]
    assert found[5] == ["deny", "file-read-data", *private]
    assert found[6] == ["allow", "file-read-data", ["subpath", '"/opt/py"'], scratch]
    assert found[7] == ["deny", "process-exec*"] and found[9:] == [
        ["deny", "signal"],
        ["allow", "signal", ["target", "same-sandbox"]],
    ]
    assert ["subpath", f'"{os.path.realpath(sys.executable)}"'] in found[8][2:]
    # what is denied is never allowed again without a path
    assert not any(rule[0] == "allow" and len(rule) == 2 for rule in found[2:])


def test_a_path_cannot_end_its_own_string():
    name = '/tmp/a")(allow file-write* (subpath "/'
    found = rules(macos_profile(name, [], ["/Users"]))
    assert len(found) == 11 and found[4][2][1].count('"') - found[4][2][1].count('\\"') == 2


def test_the_command_starts_the_interpreter_under_the_profile(monkeypatch, stand_in, tmp_path):
    seen = {}
    monkeypatch.setattr(
        isolation, "_popen", lambda command, folder: seen.update(command=command, folder=folder)
    )
    STARTERS[MACOS_BACKEND](["python", "child.py", "{}"], "/scratch/agentlib-1")
    program, option, profile, *command = seen["command"]
    assert (program, option, command) == (str(stand_in), "-p", ["python", "child.py", "{}"])
    assert '(allow file-write* (subpath "/scratch/agentlib-1") (literal "/dev/null"))' in profile
    home = os.path.realpath(os.path.expanduser("~"))
    denied = next(rule for rule in rules(profile) if rule[:2] == ["deny", "file-read-data"])
    assert ["subpath", f'"{home}"'] in denied and ["subpath", '"/Volumes"'] in denied
    packages = os.path.realpath(os.path.dirname(os.path.dirname(pytest.__file__)))
    allowed = next(rule for rule in rules(profile) if rule[:2] == ["allow", "file-read-data"])
    assert ["subpath", f'"{packages}"'] in allowed and ["subpath", f'"{home}"'] not in allowed


def test_it_is_never_chosen_by_itself():
    assert MACOS_BACKEND not in AUTOMATIC and set(AUTOMATIC) | {MACOS_BACKEND} == set(STARTERS)


def test_linux_refuses_it_in_a_sentence():
    with pytest.raises(RuntimeError) as refused:
        Sandbox(backend=MACOS_BACKEND)
    assert str(refused.value) == (
        'backend="sandbox-exec" is the sandbox of macOS, this is linux; use backend="auto"'
    )


@pytest.mark.parametrize("backend", ["auto", "limits", "bwrap"])
def test_macos_refuses_the_others_and_names_the_choice(backend, on_macos):
    with pytest.raises(
        RuntimeError,
        match=r'this is macOS.*container \(\.devcontainer .*Colab or Binder.*backend="sandbox-exec"',
    ):
        Sandbox(backend=backend)


def test_a_mac_without_the_program_says_so(on_macos, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"sandbox-exec is not on this machine's PATH.*container"
    ):
        Sandbox(backend=MACOS_BACKEND)


def test_windows_is_refused(monkeypatch):
    monkeypatch.setattr(session, "sys", types.SimpleNamespace(platform="win32"))
    with pytest.raises(RuntimeError, match=r"this is win32.*WSL 2"):
        Sandbox()


@pytest.mark.isolation
def test_a_profile_that_does_not_hold_is_detected_at_the_start(on_macos, stand_in):
    """The stand-in walls off nothing."""
    with pytest.raises(RuntimeError, match="files could be reached from inside"):
        Sandbox(backend=MACOS_BACKEND)


@pytest.fixture
def box(on_macos, stand_in, monkeypatch):
    """The machinery behind a profile, of which the stand-in keeps nothing but the text."""
    monkeypatch.setattr(Sandbox, "_check_isolation", lambda self: None)
    with pytest.warns(UserWarning) as warned:
        opened = Sandbox(
            {"double": lambda x: 2 * x},
            seconds=2.0,
            memory_mb=256,
            backend=MACOS_BACKEND,
            workers=2,
        )
    opened.warned = [str(warning.message) for warning in warned]
    with opened:
        yield opened


@pytest.mark.isolation
def test_a_session_works_without_what_only_linux_has(box, stand_in):
    with box.session() as session_:
        first = session_.run(
            "import os\nopen('note', 'w').write('here')\nx = double(20)\nprint('out')"
        )
        assert (first.failure, first.stdout, first.tool_calls[0]["args"]) == (None, "out\n", [20])
        tried = session_.run_candidates(
            ["x += 1\nfinal_answer(x)", "x += 2\nopen('note').read()", "1 / 0"]
        )
        assert [t.answer for t in tried] == [41, None, None] and tried[1].value == "'here'"
        assert tried[2].failure.kind == "execution"
        session_.commit(tried[1])
        assert session_.run("x, os.getcwd()").value == "(42, '.')"
        endless = session_.run("while True: pass")
        assert endless.failure.kind == "timeout" and session_.run("x").value == "42"
        assert session_.run("os._exit(3)").failure.kind == "killed"
        assert session_.run("print('a' * 10)\nx").value == "42"
    profile = (stand_in.parent / "profile").read_text()
    assert f'(subpath "{box._zygote.scratch}")' in profile


@pytest.mark.isolation
def test_it_warns_of_what_it_lacks_and_strict_refuses_it(box, on_macos):
    (said,) = box.warned
    assert said.startswith("MODEL-WRITTEN CODE IS NOT FULLY ISOLATED; missing: ")
    for lack in ("never been run on a real Mac", "no limit of memory", "Linux container"):
        assert lack in said
    held = box.protection
    assert held.backend == MACOS_BACKEND and not held.full and "network" in " ".join(held.covers)
    with pytest.raises(RuntimeError, match=r"strict=True but the backend is 'sandbox-exec'"):
        Sandbox(backend=MACOS_BACKEND, strict=True)


def running() -> set[str]:
    """The processes that have not ended. One that was killed may be listed, as a zombie, until
    the system's first process takes note of its end: nobody else is left to."""
    said = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True)
    listed = dict(line.split()[:2] for line in said.stdout.splitlines())
    return {pid for pid, state in listed.items() if not state.startswith("Z")}


@pytest.mark.isolation
def test_nothing_is_left_when_it_closes(box):
    with box.session() as session_:
        session_.run("x = 1")
        held, folder = box._zygote.pid, box._zygote.scratch
        pids = {str(pid) for pid in box._zygote.pids.values()}
        assert pids | {str(held)} <= running() and os.path.isdir(folder)
        assert len(pids) >= 3  # supervisor, root and the state
    box.close()
    assert not os.path.exists(folder)
    for _ in range(100):  # a signal takes effect when its process next has a core
        if not (left := (pids | {str(held)}) & running()):
            break
        time.sleep(0.05)
    assert not left


# --- the choice by an environment variable --------------------------------------------------------


def test_the_variable_chooses_where_the_program_did_not(monkeypatch):
    monkeypatch.setenv("AGENTLIB_SANDBOX", "limits")
    with pytest.warns(UserWarning, match="NOT FULLY ISOLATED"), Sandbox() as box:
        assert box.protection.backend == "limits"
    with pytest.raises(RuntimeError, match="strict=True but the backend is 'limits'"):
        Sandbox(strict=True)
    monkeypatch.setenv("AGENTLIB_SANDBOX", "")
    with Sandbox() as box:
        assert box.protection.backend in ("sandlock", "bwrap")


def test_a_variable_that_names_no_backend_is_refused_by_its_name(monkeypatch):
    monkeypatch.setenv("AGENTLIB_SANDBOX", "seatbelt")
    with pytest.raises(ValueError, match=r"'seatbelt' is unknown.*variable AGENTLIB_SANDBOX"):
        Sandbox()


def test_on_macos_the_variable_is_the_choice(stand_in, on_macos, monkeypatch):
    with pytest.raises(RuntimeError, match="AGENTLIB_SANDBOX=sandbox-exec"):
        Sandbox()
    monkeypatch.setenv("AGENTLIB_SANDBOX", MACOS_BACKEND)
    with pytest.raises(RuntimeError, match="could be reached from inside"):  # it has no walls
        Sandbox()
    assert (stand_in.parent / "profile").exists()
