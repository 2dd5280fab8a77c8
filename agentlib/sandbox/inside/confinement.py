"""The walls that an interpreter puts up around itself: Landlock, a seccomp filter, no privileges.

Each wall also holds for every fork, and none can be taken down again. This module runs inside the
sandbox and uses the kernel's interface directly; its numbers are named as in the kernel's headers.
"""

import ctypes
import os
import stat
import struct
from errno import ENOSYS, EPERM

LIBC = ctypes.CDLL(None, use_errno=True)
LANDLOCK_STEPS = 12  # the kernel nests at most 16 Landlock domains; backend and root take some

# <linux/prctl.h> and <linux/capability.h>
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
LINUX_CAPABILITY_VERSION_3 = 0x20080522

# <linux/landlock.h>; these system calls have the same numbers on all machines
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1  # flag: ask for the version of the interface
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_ACCESS_FS_EXECUTE = 1 << 0
LANDLOCK_ACCESS_FS_WRITE_FILE = 1 << 1
LANDLOCK_ACCESS_FS_READ_FILE = 1 << 2
LANDLOCK_ACCESS_FS_READ_DIR = 1 << 3
LANDLOCK_ACCESS_FS_IOCTL_DEV = 1 << 15  # the last right of the version that is required
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
LANDLOCK_SCOPE_SIGNAL = 1 << 1
LANDLOCK_VERSION = 6  # the first with scopes
ALL_FILE_RIGHTS = 2 * LANDLOCK_ACCESS_FS_IOCTL_DEV - 1

# <linux/bpf_common.h>: an instruction's code is a class, an operation and where its operand is
BPF_LD = 0x00  # class: load a value
BPF_W = 0x00  # load 32 bits
BPF_ABS = 0x20  # load from a fixed offset in the input
BPF_JMP = 0x05  # class: compare the loaded value, then skip as many instructions as given
BPF_JEQ = 0x10  # equal to the operand?
BPF_JGE = 0x30  # at least the operand?
BPF_JSET = 0x40  # any bit of the operand set?
BPF_RET = 0x06  # class: end with a verdict
BPF_K = 0x00  # the operand is in the instruction

# <linux/seccomp.h>
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000  # the call fails with the error in the low 16 bits
SECCOMP_RET_ALLOW = 0x7FFF0000
# The input of a filter, struct seccomp_data: offsets in bytes. Of an argument only the low half is
# loaded: machines are little-endian here, and the flags and process ids below are 32 bits wide.
DATA_NUMBER, DATA_ARCHITECTURE = 0, 4
DATA_ARGUMENTS = [16 + 8 * k for k in range(6)]
X32_SYSCALL_BIT = 0x40000000  # x86-64 has each call once more, for programs with short pointers

MAP_SHARED = 1  # <linux/mman.h>; MAP_SHARED_VALIDATE has this bit too
# <linux/sched.h>: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET
CLONE_NEW_NAMESPACES = 0x7E020000
# <linux/fs.h>: to set a file's attributes it only needs to be open for reading
FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR = 0x40086602, 0x401C5820

# Machine as `os.uname` names it -> its AUDIT_ARCH in <linux/audit.h>, and its column below.
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# Calls by which a process reaches what no file rule covers: numbers on x86-64 and on arm64.
REFUSED_CALLS = {
    "change the mode, owner, times or attributes of files": {
        "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
        "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
        "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88),
        "futimesat": (261, None),
        "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
        "setxattrat": (463, 463),
        "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
        "removexattrat": (466, 466), "file_setattr": (469, 469),
    },
    "open a socket, of any kind": {"socket": (41, 198)},
    "share memory, semaphores, queues or keys, or end those of other programs": {
        "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190),
        "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186),
        "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180),
        "mq_unlink": (241, 181), "add_key": (248, 217), "request_key": (249, 218),
        "keyctl": (250, 219),
    },
    "watch what happens to files": {"inotify_add_watch": (254, 27), "fanotify_init": (300, 262)},
    "trace, read, slow or hold on to another process": {
        "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
        "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
        "process_madvise": (440, 440), "migrate_pages": (256, 238), "move_pages": (279, 239),
        "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118),
        "sched_setattr": (314, 274), "sched_setscheduler": (144, 119),
        "sched_setaffinity": (203, 122),
    },
    "mount, change root or namespace": {
        "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
        "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "fsopen": (430, 430),
        "move_mount": (429, 429), "mount_setattr": (442, 442),
        "open_tree_attr": (467, 467),
    },
    "ask the kernel past this filter, or run programs in it": {
        "io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
    },
}  # fmt: skip
# Calls that are refused if an argument, counted from 0, passes a test.
REFUSED_ARGUMENTS = {
    "share memory with forks": ("mmap", (9, 222), 3, BPF_JSET, MAP_SHARED),
    "limit another process than itself, which is 0": ("prlimit64", (302, 261), 0, BPF_JGE, 1),
    "enter a new namespace": ("clone", (56, 220), 0, BPF_JSET, CLONE_NEW_NAMESPACES),
    "set a file's flags": ("ioctl", (16, 29), 1, BPF_JEQ, FS_IOC_SETFLAGS),
    "set a file's extended flags": ("ioctl", (16, 29), 1, BPF_JEQ, FS_IOC_FSSETXATTR),
}
# A filter cannot see the flags of clone3. Told that it does not exist, C libraries use clone.
CLONE3 = (435, 435)


def drop_privileges() -> None:
    """Give up capabilities, gaining new ones and being traced, and become the parent of orphans."""
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # What an ended interpreter leaves behind stays a child of this process, which can end it.
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    this_process = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    no_capabilities = (ctypes.c_uint32 * 6)()
    LIBC.capset(this_process, no_capabilities)
    # One interpreter cannot trace another or read its memory.
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def open_paths(readable: list[str]) -> dict[int, int]:
    """Open the `readable` paths: a descriptor that only names each, and its Landlock rights."""
    rights = {}
    for path in readable:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights[place] = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE
        if stat.S_ISDIR(os.fstat(place).st_mode):
            rights[place] |= LANDLOCK_ACCESS_FS_READ_DIR
        if path == "/dev/null":
            rights[place] |= LANDLOCK_ACCESS_FS_WRITE_FILE
    return rights


def apply_landlock(readable: dict[int, int], folder: int) -> bool:
    """Let this process and its forks write only in `folder`, and read only there and in `readable`.

    From then on they can signal and trace only each other. `folder` is a descriptor, `readable`
    what `open_paths` returned. False, with nothing changed, where the kernel cannot do all of it.
    """
    version = LIBC.syscall(
        LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION
    )
    if version < LANDLOCK_VERSION:
        return False
    # struct landlock_ruleset_attr: files, ports (none: the filter refuses every socket), scopes
    scopes = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL
    handled = (ctypes.c_uint64 * 3)(ALL_FILE_RIGHTS, 0, scopes)
    ruleset = LIBC.syscall(
        LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(ctypes.sizeof(handled)), 0
    )
    own_folder = (folder, ALL_FILE_RIGHTS & ~LANDLOCK_ACCESS_FS_IOCTL_DEV)
    try:
        for place, rights in [*readable.items(), own_folder]:
            rule = struct.pack("=Qi", rights, place)  # struct landlock_path_beneath_attr
            if LIBC.syscall(LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0):
                return False
        return LIBC.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def apply_seccomp() -> bool:
    """Refuse REFUSED_CALLS and REFUSED_ARGUMENTS from here on.

    False where this machine's call numbers are not known or the kernel takes no filter.
    """
    if os.uname().machine not in MACHINES:
        return False
    program = seccomp_program(*MACHINES[os.uname().machine])
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in program))
    # struct sock_fprog: length and address
    description = struct.pack("H6xP", len(program), ctypes.addressof(instructions))
    return LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, description, 0, 0) == 0


def seccomp_program(architecture: int, column: int) -> list[tuple[int, int, int, int]]:
    """The filter for a machine (its entry in MACHINES), as instructions of classic BPF.

    An instruction is (code, instructions to skip if true, to skip if false, operand).
    """

    def load(offset: int) -> tuple[int, int, int, int]:
        return BPF_LD | BPF_W | BPF_ABS, 0, 0, offset

    def skip_unless(test: int, operand: int, count: int) -> tuple[int, int, int, int]:
        return BPF_JMP | test | BPF_K, 0, count, operand

    def fail_with(error: int) -> tuple[int, int, int, int]:
        return BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | error

    refuse = fail_with(EPERM)
    allow = (BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW)
    skip_if_known = (BPF_JMP | BPF_JEQ | BPF_K, 1, 0, architecture)
    program = [load(DATA_ARCHITECTURE), skip_if_known, refuse]
    program += [load(DATA_NUMBER), skip_unless(BPF_JGE, X32_SYSCALL_BIT, 1), refuse]
    for calls in REFUSED_CALLS.values():
        for numbers in calls.values():
            if numbers[column] is not None:
                program += [skip_unless(BPF_JEQ, numbers[column], 1), refuse]
    program += [skip_unless(BPF_JEQ, CLONE3[column], 1), fail_with(ENOSYS)]
    for _, numbers, argument, test, operand in REFUSED_ARGUMENTS.values():
        check = [load(DATA_ARGUMENTS[argument]), skip_unless(test, operand, 1), refuse]
        program += [skip_unless(BPF_JEQ, numbers[column], len(check)), *check, load(DATA_NUMBER)]
    return [*program, allow]
