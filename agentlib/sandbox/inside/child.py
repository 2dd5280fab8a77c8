"""What runs inside the sandbox: this file is started by the program as a script.

The process becomes a supervisor, which never runs model-written code. It forks the root
interpreter, which loads numpy and sympy and runs nothing either. All others are forks of forks: a
fork is a snapshot, so the state after an action is the process that ran it, waiting to be forked
again. Each fork has its own channel to the supervisor, and only the supervisor holds the pipes to
the program, so no action can speak in the name of another.

The package cannot be imported in there: only the files of FILES can be read.

With the setting `portable` nothing is used that only Linux has: Landlock, seccomp, the kernel's
word for who speaks and its signal when a pipe closes, files without a name, limits of address
space.
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

# The modules that this script needs, each after those that it imports.
FILES = ("protocol", "workdir", "confinement", "results", "supervisor", "interpreter")
PACKAGE = "agentlib.sandbox.inside"
PORTABLE_OPEN_FILES = 4096


def load_modules() -> dict[str, types.ModuleType]:
    """Load the modules in FILES, by name, from beside this file and without listing the folder.

    While they load, they are all that `agentlib` consists of; then it cannot be imported any more.
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
    """Be the supervisor in this process, and the root interpreter (number 0) in a fork of it."""
    modules = load_modules()
    scratch = modules["workdir"]
    settings = json.loads(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if settings["portable"]:  # macOS has no limit here that it would also accept as a soft one
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, PORTABLE_OPEN_FILES), hard))
    else:
        modules["confinement"].drop_privileges()
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ours, theirs = socket.socketpair()
    root = os.fork()
    if root == 0:
        ours.close()
        modules["interpreter"].run_root(theirs.detach(), settings, modules.values())
    theirs.close()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel removes orphans as they end
    supervisor = modules["supervisor"].Supervisor(settings["scratch"] * settings["portable"])
    supervisor.add(0, ours, [], -1, settings["scratch"])
    if settings["portable"]:
        supervisor.nodes[0].pid = root
    try:
        supervisor.run()
    except Exception:
        traceback.print_exc()  # on the program's standard error; it then reports that this ended
    finally:
        for number in list(supervisor.nodes):
            supervisor.end(number)
        with contextlib.suppress(OSError):  # the program removes what is left, if it lives
            for name in os.listdir(settings["scratch"]):
                scratch.remove_folder(os.path.join(settings["scratch"], name))
        os._exit(0)


if __name__ == "__main__":
    start()
