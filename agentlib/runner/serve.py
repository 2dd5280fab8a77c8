"""`python -m agentlib serve`: a preset's index on a `/retrieve` server, so that one machine's
memory serves many runs.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from agentlib import config
from agentlib.benchmarks import search
from agentlib.retrieval import server

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; 2, with a sentence, for settings that are wrong or an index that is
    not there.
    """
    parser = argparse.ArgumentParser(
        prog="python -m agentlib serve", description="Serve a preset's index."
    )
    parser.add_argument("--preset", default="smoke", help="smoke, laptop or paper")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="override one setting of the preset, such as retriever=ivfpq (may be repeated)",
    )
    parser.add_argument(
        "--build",
        action="store_true",
        help="build the index first where it is missing or unfinished",
    )
    parser.add_argument(
        "--adopt",
        type=Path,
        metavar="FILE",
        help=(
            "take this flat index, such as Search-R1's of wiki-18, after checking it against the"
            " corpus"
        ),
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK[0],
        help="the address to listen at; this machine's own alone by default",
    )
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args(arguments)
    try:
        cfg = config.load(asked.preset, **dict(map(config.setting, asked.settings)))
        if cfg.retriever_url:
            raise ValueError(
                f"setting 'retriever_url' is {cfg.retriever_url!r}: that server is up already,"
                " leave it out"
            )
        if asked.adopt:
            search.adopt(cfg, asked.adopt)
        elif asked.build:
            search.build(cfg)
        searcher = search.open_searcher(cfg)
        if asked.host.strip("[]") not in LOOPBACK and not os.environ.get(server.TOKEN):
            print(
                f"warning: {asked.host} is open to the network and {server.TOKEN} is not set:"
                " anybody who reaches this port can search",
                file=sys.stderr,
            )
        with server.serving(searcher, asked.host, asked.port) as url:
            print(
                f"{len(searcher)} passages at {url}/retrieve; use it with --set"
                f" retriever_url={url}",
                flush=True,
            )
            # what ends a service ends it as Ctrl-C does
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            threading.Event().wait()  # until interrupted
    except ImportError as error:
        print(
            f"error: a server needs {error.name}, which is not installed; pip install"
            " 'agentlib[retriever]'",
            file=sys.stderr,
        )
        return 2
    # RuntimeError: another process builds that index
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
