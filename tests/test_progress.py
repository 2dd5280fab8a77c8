"""Progress: a log gets a line a minute with the time left, and nothing of what bars draw over
themselves."""

import io
import subprocess
import sys

from agentlib import progress


def test_a_log_gets_the_latest_state_of_a_bar_now_and_then(monkeypatch):
    quiet, told = io.StringIO(), io.StringIO()
    for k in range(50):
        progress.Lines(quiet).write(f"\rtrain: {k}%|#     | {k}/100 [00:0{k % 10}<00:30, 2.0q/s]")
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    lines = progress.Lines(told)
    lines.write("warning: 7% of the disk is left\n")
    lines.write(
        "\rtrain:   0%|          | 0/10\rtrain:  10%|#         | 1/10 [00:01<00:09,"
        " 1.0step/s]\nwarning: hot\n"
    )
    lines.write("\r" + " " * 80 + "\r")
    assert quiet.getvalue() == ""
    assert told.getvalue()[8:] == "  train:  10%|#         | 1/10 [00:01<00:09, 1.0step/s]\n"


def test_a_command_without_a_terminal_writes_whole_lines():
    code = (
        "import time\nfrom agentlib import progress\nprogress.SECONDS = 0.2\nfor _ in"
        " progress.meter(range(12), desc='work', unit='q', mininterval=0.1): time.sleep(0.1)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0 and "\r" not in ran.stderr, ran.stderr
    found = [line for line in ran.stderr.splitlines() if line]
    # each with the time that is left
    assert 2 <= len(found) <= 8 and all("work:" in line and "<" in line for line in found)
