"""The retriever's command: it says what is lacking, and serves what a client then finds."""

import os
import re
import signal
import subprocess
import sys

import pytest
from test_retrieval import ipv6

from agentlib import config
from agentlib.benchmarks import search
from agentlib.retrieval import server as retrieval_server
from agentlib.runner import serve

SMALL = ["--set", "retriever=bm25", "--set", "passages=1600"]


def test_an_index_that_is_not_there_is_named_with_the_remedy(project, capsys):
    assert serve.main(SMALL) == 2
    assert re.search(
        r"error: index .* is missing; build it with notebook 01", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--set", "retriever=flat"], "expected one of faiss, ivfpq, bm25"), (["--set", "nonsense=1"], "is unknown"),
     (["--set", "retriever_url=http://127.0.0.1:1"], "that server is up already"),
     (["--set", "retriever_url=127.0.0.1:8000"], "setting 'retriever_url': address '127.0.0.1:8000' is none of a server"),
     (["--set", "retriever=bm25", "--adopt", "x.index"], "expected 'faiss' for an index that others built")],
)  # fmt: skip
def test_wrong_settings_are_sentences(project, capsys, arguments, said):
    assert serve.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_server_without_its_packages_says_what_to_install(project, capsys, monkeypatch):
    monkeypatch.setattr(search, "open_searcher", lambda cfg: [])
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert serve.main(SMALL) == 2
    assert (
        "error: a server needs uvicorn, which is not installed; pip install 'agentlib[retriever]'"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("host", ["127.0.0.1", *ipv6("[::1]")])
@pytest.mark.server
def test_the_command_builds_serves_and_ends_when_told_to(tmp_path, host):
    """As a user runs it, from a copy of nothing but the package, so that the index lands there.
    (Where a shell started the tests in the background, interrupts are ignored, so it is ended as
    a service is.)"""
    (tmp_path / "agentlib").symlink_to(config.ROOT / "agentlib")
    code = (
        "import sys; from pathlib import Path; from agentlib import config; from agentlib.runner"
        " import serve; config.ROOT = Path(sys.argv[1]); sys.exit(serve.main(sys.argv[2:]))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(tmp_path),
        *SMALL,
        "--build",
        "--host",
        host,
        "--port",
        "0",
    ]
    environment = os.environ | {retrieval_server.TOKEN: "workshop"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as server:
        try:
            said = server.stdout.readline()
            url = re.match(
                r"1600 passages at (http://\S+:\d+)/retrieve; use it with --set retriever_url=\1",
                said,
            )[1]
            assert url.startswith(f"http://{host}:")
            hits = retrieval_server.RetrieverClient(url, token="workshop").search(
                ["capital of France"], 1
            )[0]
            assert hits and hits[0].passage in list(
                search.corpus(config.load("smoke", passages=1600))
            )
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
