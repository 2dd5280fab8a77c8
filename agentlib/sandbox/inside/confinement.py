"""The walls that an interpreter raises around itself: Landlock rules, a filter of system calls, no privileges.

Owns the kernel's numbers. Knows nothing of sessions, actions or messages. It runs inside the sandbox, so it imports
nothing of this package. Each wall also holds for every fork, and none can be taken down again.
"""

import ctypes
import os
import stat
import struct
from errno import EPERM

LIBC = ctypes.CDLL(None, use_errno=True)
CONFINED_STEPS = 12  # the kernel nests at most 16 Landlock domains; the isolation and the root take some

# System calls by which a process reaches what no file rule covers; x86-64 and arm64 numbers.
REFUSED = {
    "change the mode, owner, times or attributes of files": (
        (90, 91, 92, 93, 94, 132, 188, 189, 190, 197, 198, 199, 235, 260, 261, 268, 280, 452, 463, 466),
        (5, 6, 7, 14, 15, 16, 52, 53, 54, 55, 88, 452, 463, 466),
    ),
    "open a socket, of any kind": ((41,), (198,)),
    "share memory, semaphores, queues or keys by name": (
        (29, 30, 64, 65, 68, 69, 220, 240, 248, 249, 250), (180, 186, 189, 190, 192, 193, 194, 196, 217, 218, 219),
    ),
    "trace, read, slow or hold on to another process": (
        (101, 141, 142, 144, 203, 251, 256, 279, 310, 311, 312, 314, 434, 438, 440),
        (30, 117, 118, 119, 122, 140, 238, 239, 270, 271, 272, 274, 434, 438, 440),
    ),
    "mount, change root or namespace": ((155, 161, 165, 166, 272, 308, 428, 429, 430, 442), (39, 40, 41, 51, 97, 268, 428, 429, 430, 442)),
    "ask the kernel past this filter, or run programs in it": ((298, 321, 323, 425), (241, 280, 282, 425)),
}  # fmt: skip
# machine -> audit architecture, column above, mmap, prlimit64
MACHINES = {"x86_64": (0xC000003E, 0, 9, 302), "aarch64": (0xC00000B7, 1, 222, 261)}


def shed_privileges() -> None:
    """Give up capabilities, gaining new ones and being traced, and adopt orphans."""
    LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    LIBC.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what an ended interpreter leaves behind stays ours to end
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    LIBC.capset(header, (ctypes.c_uint32 * 6)())
    LIBC.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE off: one interpreter cannot trace or read another's memory


def hold(readable: list[str]) -> dict[int, int]:
    """What may be read, as descriptors (that only stand for a place) and the Landlock rights there."""
    execute, write, read, list_folder = 1, 2, 4, 8
    held = {}
    for path in readable:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        held[place] = execute | read | (list_folder if stat.S_ISDIR(os.fstat(place).st_mode) else 0)
        if path == "/dev/null":
            held[place] |= write
    return held


def confine(readable: dict[int, int], folder: int) -> bool:
    """From here on this process and its forks write only beneath the `folder` (a descriptor), read only there and in
    `readable`, and signal or trace only each other; False, with nothing changed, where the kernel cannot do all of it.
    """
    if LIBC.syscall(444, None, ctypes.c_size_t(0), 1) < 6:  # landlock_create_ruleset: the version of the interface
        return False
    rules = (ctypes.c_uint64 * 3)((1 << 16) - 1, 0, 3)  # landlock_ruleset_attr: files, no ports, sockets and signals
    ruleset = LIBC.syscall(444, rules, ctypes.c_size_t(24), 0)
    try:
        for place, allowed in [*readable.items(), (folder, (1 << 15) - 1)]:
            beneath = struct.pack("=Qi", allowed, place)
            if LIBC.syscall(445, ruleset, 1, beneath, 0):  # landlock_add_rule, LANDLOCK_RULE_PATH_BENEATH
                return False
        return LIBC.syscall(446, ruleset, 0) == 0  # landlock_restrict_self
    finally:
        os.close(ruleset)


def filter_calls() -> bool:
    """From here on the calls of `REFUSED`, memory shared with forks, and other processes' limits are refused; False
    where this machine's numbers are not known or the kernel takes no filter."""
    if os.uname().machine not in MACHINES:
        return False
    architecture, column, mmap, prlimit = MACHINES[os.uname().machine]
    load, equal, at_least, bits, give = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: load a word, compare, test bits, return
    refuse, allow = 0x00050000 | EPERM, 0x7FFF0000
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, refuse), (load, 0, 0, 0)]
    program += [(at_least, 0, 1, 0x40000000), (give, 0, 0, refuse)]  # the same calls once more, for x32 programs
    for calls in REFUSED.values():
        program += [step for call in calls[column] for step in ((equal, 0, 1, call), (give, 0, 0, refuse))]
    # mmap with MAP_SHARED in its fourth argument; prlimit of a process other than the caller, the first.
    program += [(equal, 0, 3, mmap), (load, 0, 0, 16 + 8 * 3), (bits, 0, 1, 1), (give, 0, 0, refuse), (load, 0, 0, 0)]
    program += [(equal, 0, 3, prlimit), (load, 0, 0, 16), (equal, 1, 0, 0), (give, 0, 0, refuse)]
    program += [(give, 0, 0, allow)]
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    description = struct.pack("H6xP", len(program), ctypes.addressof(steps))
    return LIBC.prctl(22, 2, description, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
