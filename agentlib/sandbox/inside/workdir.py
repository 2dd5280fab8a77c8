"""The folder that each interpreter may write in, and how a fork makes the folder and the open files its own.

Owns what lies in a scratch folder, its limits, copying and removing. Knows nothing of sessions, actions or messages. It
runs inside the sandbox, so it imports nothing of this package. A fork's folder lies inside that of the interpreter it
is a fork of, since the kernel lets a process only narrow what it may reach.
"""

import contextlib
import fcntl
import os
import select
import stat
from collections.abc import Container

FORK_FOLDER = ".fork-"  # begins the name of a fork's folder, inside the folder of the interpreter it is a fork of
SCRATCH_BYTES = 32 << 20
SCRATCH_FILES = 256
SCRATCH_DEPTH = 20  # folders within folders
OPEN_FILES = 256  # of which 16 are the runner's
_LISTENING = select.poll()  # one call says which descriptors are open
for _fd in range(3, OPEN_FILES):
    _LISTENING.register(_fd, 0)
Entries = list[tuple[str, os.stat_result]]  # paths with their states


def entries(folder: str, others: Container[str] | None = None) -> tuple[Entries, bool]:
    """What lies in a scratch folder, a folder before what is in it, with its state, and whether that is all: at most
    SCRATCH_FILES entries, SCRATCH_DEPTH deep. The folders of the forks made from it, `others` or whatever has such a
    name, are left out."""
    found: Entries = []
    waiting, deepest = [folder], folder.count("/") + SCRATCH_DEPTH
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as listed:
            for entry in listed:
                if len(found) == SCRATCH_FILES or entry.path.count("/") > deepest:
                    return found, False
                if entry.name.startswith(FORK_FOLDER) and (others is None or entry.path in others):
                    continue
                state = entry.stat(follow_symlinks=False)
                found.append((entry.path, state))
                if stat.S_ISDIR(state.st_mode):
                    waiting.append(entry.path)
    return found, True


def remove(folder: str) -> bool:
    """Remove what `entries` finds of a scratch folder, then the folder; whether anything could be removed."""
    removed = False
    with contextlib.suppress(OSError):
        os.rmdir(folder)  # nearly always: nothing was written
        return True
    for path, state in reversed(entries(folder, ())[0]):
        with contextlib.suppress(OSError):
            (os.rmdir if stat.S_ISDIR(state.st_mode) else os.unlink)(path)
            removed = True
    with contextlib.suppress(OSError):
        os.rmdir(folder)
        removed = True
    return removed


def copy_scratch(written: Entries, origin: str, folder: str) -> None:
    """What the origin has `written` becomes this fork's own: its folders, files and links, nothing else."""
    for path, state in written:
        copy = folder + path[len(origin) :]
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(state.st_mode):
                os.mkdir(copy, 0o700)
            elif stat.S_ISLNK(state.st_mode):
                os.symlink(os.readlink(path), copy)
            elif stat.S_ISREG(state.st_mode):
                source, target = os.open(path, os.O_RDONLY), os.open(copy, os.O_WRONLY | os.O_CREAT, 0o600)
                while os.sendfile(target, source, None, 1 << 20):
                    pass
                os.close(source)
                os.close(target)


def enter(folder: str) -> int:
    """Make a folder the working one; a descriptor that stands for it."""
    place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    os.fchdir(place)
    return place


def dead_end() -> int:
    """A descriptor from which nothing comes, and into which nothing can be written."""
    end, other = os.pipe()
    os.close(other)
    return end


def own_files(written: Entries, origin: str, folder: str, spared: Container[int], dead: int) -> None:
    """Make this fork's open descriptors its own: a file that the origin has `written` is reopened in its copy in
    `folder`, where it stood; all others (pipes, sockets, files without a name), in which two forks could meet, become `dead`."""
    closed = {fd for fd, state in _LISTENING.poll(0) if state & select.POLLNVAL}
    held = [fd for fd in range(3, OPEN_FILES) if fd not in closed and fd not in spared]
    if not held:
        return
    named = {}
    for path, state in written:
        named[state.st_dev, state.st_ino] = folder + path[len(origin) :]
    for fd in held:
        state = os.fstat(fd)
        try:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
            fresh = os.open(named[state.st_dev, state.st_ino], flags)
            os.lseek(fresh, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
            os.dup2(fresh, fd, inheritable=False)
            os.close(fresh)
        except (OSError, KeyError):
            os.dup2(dead, fd, inheritable=False)
