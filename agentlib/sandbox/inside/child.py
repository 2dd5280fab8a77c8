"""What runs inside the sandbox, started by the parent as a script.

Owns the order in which the isolated process becomes a supervisor, which never runs model-written code, and a root
interpreter. Knows nothing of models, of tools, or of how the process was isolated. The package cannot be imported in
there, only FILES can be read.

The supervisor forks the root interpreter, which loads numpy and sympy and is never run upon. Everything else is a fork
of a fork: a fork is a snapshot, so the state after an action is simply the process that ran it, waiting to be forked
again. Each fork has its own channel to the supervisor, and the supervisor alone holds the pipes to the parent, so no
action can speak in the name of another.
"""

import contextlib
import importlib.util
import json
import os
import resource
import signal
import socket
import sys
import traceback
import types

# What this script needs beside it, each after those it imports.
FILES = ("protocol", "workdir", "confinement", "results", "supervisor", "interpreter")
PACKAGE = "agentlib.sandbox.inside"


def beside() -> dict[str, types.ModuleType]:
    """The modules in FILES by name, loaded from the files beside this one without listing the folder.

    For as long as they load, these files are all there is of the package `agentlib`; afterwards an action cannot import it.
    """
    package, loaded = types.ModuleType(PACKAGE), {}
    parents = ("agentlib", "agentlib.sandbox")
    sys.modules.update({name: types.ModuleType(name) for name in parents} | {PACKAGE: package})
    for name in FILES:
        place = os.path.join(os.path.dirname(__file__), f"{name}.py")
        spec = importlib.util.spec_from_file_location(f"{PACKAGE}.{name}", place)
        loaded[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        setattr(package, name, module)
    for name in (*parents, PACKAGE):
        del sys.modules[name]
    return loaded


def start() -> None:
    """The script: supervisor in this process, root interpreter (number 0) in a fork of it."""
    modules = beside()
    scratch = modules["workdir"]
    modules["confinement"].shed_privileges()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ours, theirs = socket.socketpair()
    settings = json.loads(sys.argv[1])
    if os.fork() == 0:
        ours.close()
        modules["interpreter"].be_root(theirs.detach(), settings, modules.values())
    theirs.close()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets orphans as they end
    supervisor = modules["supervisor"].Supervisor()
    supervisor.adopt(0, ours, [], -1, settings["scratch"])
    try:
        supervisor.run()
    except Exception:
        traceback.print_exc()  # on the program's own standard error: the parent then reports that the process ended
    finally:
        for number in list(supervisor.nodes):
            supervisor.end(number)
        with contextlib.suppress(OSError):  # the parent removes the rest, if it was not killed
            for name in os.listdir(settings["scratch"]):
                scratch.remove(os.path.join(settings["scratch"], name))
        os._exit(0)


if __name__ == "__main__":
    start()
