"""The folder that an interpreter may write in, and how a fork makes folder and open files its own.

It runs inside the sandbox. A fork's folder is inside that of the interpreter it was forked from,
since the kernel lets a process only narrow what it may reach.
"""

import contextlib
import fcntl
import os
import select
import stat
from collections.abc import Container

from agentlib.sandbox.inside import protocol as wire

FORK_FOLDER = ".fork-"  # the name of a fork's folder begins with this
MAX_SCRATCH_BYTES = 32 << 20
MAX_SCRATCH_FILES = 256
MAX_SCRATCH_DEPTH = 20  # folders within folders
MAX_OPEN_FILES = 256
RUNNER_FILES = 16  # of them, for what runs the actions
_DESCRIPTORS = select.poll()  # one call says which descriptors are open
for _fd in range(3, MAX_OPEN_FILES):
    _DESCRIPTORS.register(_fd, 0)
Entries = list[tuple[str, os.stat_result]]  # path and status of each file, link and folder


def list_entries(folder: str, others: Container[str] | None = None) -> tuple[Entries, bool]:
    """What is in a scratch folder, folders before their contents, and whether the list is complete.

    It ends at MAX_SCRATCH_FILES entries and at MAX_SCRATCH_DEPTH. The folders of forks are left
    out: those in `others`, or without it all that have such a name.
    """
    found: Entries = []
    waiting, deepest = [folder], folder.count("/") + MAX_SCRATCH_DEPTH
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as listed:
            for entry in listed:
                if len(found) == MAX_SCRATCH_FILES or entry.path.count("/") > deepest:
                    return found, False
                if entry.name.startswith(FORK_FOLDER) and (others is None or entry.path in others):
                    continue
                state = entry.stat(follow_symlinks=False)
                found.append((entry.path, state))
                if stat.S_ISDIR(state.st_mode):
                    waiting.append(entry.path)
    return found, True


def remove_folder(folder: str) -> bool:
    """Remove a scratch folder and the entries in it; whether anything could be removed."""
    removed = False
    with contextlib.suppress(OSError):
        os.rmdir(folder)  # nearly always: nothing was written
        return True
    for path, state in reversed(list_entries(folder, ())[0]):
        with contextlib.suppress(OSError):
            (os.rmdir if stat.S_ISDIR(state.st_mode) else os.unlink)(path)
            removed = True
    with contextlib.suppress(OSError):
        os.rmdir(folder)
        removed = True
    return removed


def copy_entries(written: Entries, origin: str, folder: str) -> None:
    """Copy what the `origin` has written to the fork's `folder`: folders, files and links only."""
    for path, state in written:
        copy = folder + path[len(origin) :]
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(state.st_mode):
                os.mkdir(copy, 0o700)
            elif stat.S_ISLNK(state.st_mode):
                os.symlink(os.readlink(path), copy)
            elif stat.S_ISREG(state.st_mode):
                source = os.open(path, os.O_RDONLY)
                target = os.open(copy, os.O_WRONLY | os.O_CREAT, 0o600)
                while part := os.read(source, 1 << 20):
                    wire.write_all(target, part)
                os.close(source)
                os.close(target)


def enter_folder(folder: str) -> int:
    """Make a folder the working one, and return a descriptor of it."""
    place = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    os.fchdir(place)
    return place


def open_dead_end() -> int:
    """A descriptor that is at its end for who reads and cannot be written to."""
    end, other = os.pipe()
    os.close(other)
    return end


def separate_files(
    written: Entries, origin: str, folder: str, spared: Container[int], dead_end: int
) -> None:
    """Make this fork's open descriptors its own, but for those that are `spared`.

    A file that the `origin` has written is opened again in its copy in `folder`, at the same
    position. All others (pipes, sockets, files without a name) could connect two forks, so they
    become `dead_end`.
    """
    closed = {fd for fd, state in _DESCRIPTORS.poll(0) if state & select.POLLNVAL}
    inherited = [fd for fd in range(3, MAX_OPEN_FILES) if fd not in closed and fd not in spared]
    if not inherited:
        return
    copies = {(state.st_dev, state.st_ino): folder + path[len(origin) :] for path, state in written}
    for fd in inherited:
        state = os.fstat(fd)
        try:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
            fresh = os.open(copies[state.st_dev, state.st_ino], flags)
            os.lseek(fresh, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
            os.dup2(fresh, fd, inheritable=False)
            os.close(fresh)
        except (OSError, KeyError):
            os.dup2(dead_end, fd, inheritable=False)
