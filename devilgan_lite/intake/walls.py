"""The walls of the jail: what the kernel can forbid a process with a stranger's file, with no privilege of ours.

Namespaces, Landlock, seccomp and resource limits, by ``ctypes`` alone. Each function raises one wall and returns
``"stood"``, or why it does not stand here; nothing raises, so that a run goes on with the walls that there are.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig
from collections.abc import Collection, Iterable
from pathlib import Path

STOOD = "stood"
LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None, use_errno=True)

# prctl(2)
PDEATHSIG, DUMPABLE, SECCOMP, NO_NEW_PRIVS, CHILD_SUBREAPER, CAPBSET_DROP, CAP_AMBIENT = 1, 4, 22, 38, 36, 24, 47


def prctl(option: int, *values: int) -> None:
    """prctl(2); ``OSError`` where the kernel refuses."""
    words = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _checked(_LIBC.prctl(option, *words))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _syscall(number: int, *values: object) -> int:
    return _checked(_LIBC.syscall(ctypes.c_long(number), *values))


def _why(error: OSError) -> str:
    return f"not allowed here: {error.strerror or error}"


# --- namespaces ---------------------------------------------------------------------------------------------------
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000


def namespaces() -> str:
    """Give this process a user and a network of its own, and its next child process numbers that start at 1.

    The user keeps its number, so files stay readable. The network has no interface that is up. The death of process 1
    ends all that it started, and it can neither see nor signal what is outside.
    """
    if not LINUX:
        return f"{sys.platform} has no namespaces"
    user, group = os.geteuid(), os.getegid()
    try:
        _checked(_LIBC.unshare(NEW_USER | NEW_PROCESSES | NEW_NETWORK))
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except OSError as error:
        return _why(error)
    return STOOD


# --- privileges ---------------------------------------------------------------------------------------------------
def privileges() -> str:
    """Drop every capability and all ways to gain one, also for root."""
    if not LINUX:
        return f"{sys.platform} has no capabilities to drop"
    try:
        prctl(NO_NEW_PRIVS, 1)
        prctl(CAP_AMBIENT, 4)  # clear all
        for capability in range(64):
            try:
                prctl(CAPBSET_DROP, capability)
            except OSError:  # without CAP_SETPCAP, or the last one passed; the sets below are what counts
                break
        header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
        _checked(_LIBC.capset(header, nothing))
    except OSError as error:
        return _why(error)
    return STOOD


# --- resource limits ----------------------------------------------------------------------------------------------
def resources(limits: dict[str, float]) -> dict[str, str]:
    """Set rlimits; ``memory_bytes`` is what the child may take beyond what it has now. Returns three walls."""
    os.umask(0o077)
    cpu, file_bytes = int(limits["cpu_seconds"]) + 2, int(limits["file_bytes"])  # the supervisor is first, and says why
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if LINUX else 0
    wanted = {
        "cpu": [(resource.RLIMIT_CPU, cpu)],
        "files": [(resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_NOFILE, 256), (resource.RLIMIT_CORE, 0)],
        "memory": [(resource.RLIMIT_AS, taken + int(limits["memory_bytes"]))] if LINUX else [],
    }
    walls = {name: STOOD if pairs else f"{sys.platform} cannot limit it" for name, pairs in wanted.items()}
    for name, pairs in wanted.items():
        for limit, value in pairs:
            try:
                resource.setrlimit(limit, (value, value))
            except (OSError, ValueError) as error:
                walls[name] = f"not allowed here: {error}"
    return walls


# --- Landlock -----------------------------------------------------------------------------------------------------
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
IN_SCRATCH = WRITE_FILE | READ_FILE | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # of files, by version of Landlock


def libraries() -> list[Path]:
    """What Python, torch and this package need to read; the home folder and /etc are not among it."""
    package = Path(__file__).resolve().parents[1]
    folders: list[str | Path] = [
        sys.prefix,
        sys.base_prefix,
        *sysconfig.get_paths().values(),
        package,
        package.parent / "data",
    ]
    folders += [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]
    folders += [os.environ.get("DEVILGAN_DATA") or package, "/usr", "/lib", "/lib64", "/etc/ld.so.cache"]
    folders += ["/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"]
    return [Path(folder) for folder in [*folders, "/dev/urandom", "/dev/random", "/dev/zero"]]


def landlock(reads: Iterable[Path], scratch: Path) -> dict[str, str]:
    """Allow this process to read ``libraries()`` and ``reads`` and to write below ``scratch``; returns two walls.

    No links, devices, sockets or pipes can be made in ``scratch``. File modes and times are left to ``seccomp``.
    """
    try:
        version = _syscall(CREATE_RULESET, None, 0, 1) if LINUX else 0
    except OSError:
        version = 0
    if not version:
        return dict.fromkeys(("reading", "writing"), "this system has no Landlock")
    known = (1 << RIGHTS.get(version, 16)) - 1
    ports, scoped = (3 if version >= 4 else 0), (3 if version >= 6 else 0)  # TCP; abstract sockets and signals
    attributes = struct.pack("QQQ", known, ports, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    try:
        prctl(NO_NEW_PRIVS, 1)
        ruleset = _syscall(CREATE_RULESET, attributes, len(attributes), 0)
        allowed = [(path, READ_FILE | READ_DIR) for path in [*libraries(), *reads]]
        for path, rights in [*allowed, (Path("/dev/null"), READ_FILE | WRITE_FILE), (scratch, IN_SCRATCH)]:
            if path.exists():
                rights &= known if path.is_dir() else known & ON_FILES
                folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
                _syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, folder), 0)
                os.close(folder)
        _syscall(RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)
    except OSError as error:
        return dict.fromkeys(("reading", "writing"), _why(error))
    return {"reading": STOOD, "writing": STOOD if version >= 3 else "this kernel cannot forbid to cut off files"}


# --- seccomp ------------------------------------------------------------------------------------------------------
# Name, number on x86_64, number on aarch64 ("-": it has none).
FORBIDDEN = """
socket 41 198, socketpair 53 199, connect 42 203, bind 49 200, listen 50 201, accept 43 202, accept4 288 242,
fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, ptrace 101 117, process_vm_readv 310 270,
process_vm_writev 311 271, kcmp 312 272, pidfd_send_signal 424 424, pidfd_open 434 434, pidfd_getfd 438 438,
process_madvise 440 440, process_mrelease 448 448, move_pages 279 239, migrate_pages 256 238, tkill 200 130,
rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, setpriority 141 140, ioprio_set 251 30, setpgid 109 154,
sched_setscheduler 144 119, sched_setparam 142 118, sched_setattr 314 274, unshare 272 97, setns 308 268,
mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, open_tree 428 428, move_mount 429 429,
fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442, bpf 321 280,
keyctl 250 219, add_key 248 217, request_key 249 218, io_uring_setup 425 425, io_uring_enter 426 426,
io_uring_register 427 427, io_setup 206 0, userfaultfd 323 282, perf_event_open 298 241, kexec_load 246 104,
kexec_file_load 320 294, init_module 175 105, finit_module 313 273, delete_module 176 106,
open_by_handle_at 304 265, name_to_handle_at 303 264, memfd_create 319 279, memfd_secret 447 447, shmget 29 194,
shmat 30 196, shmctl 31 195, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, semget 64 190, semop 65 193,
semctl 66 191, semtimedop 220 192, mq_open 240 180, mq_unlink 241 181, inotify_init 253 -, inotify_init1 294 26,
splice 275 76, vmsplice 278 75, tee 276 77,
fallocate 285 47, chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, lchown 94 -,
fchown 93 55, fchownat 260 54, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14,
lremovexattr 198 15, fremovexattr 199 16, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88,
quotactl 179 60, quotactl_fd 443 443, swapon 167 224, swapoff 168 225, reboot 169 142, sethostname 170 161,
setdomainname 171 162, acct 163 89, syslog 103 116, settimeofday 164 170, clock_settime 227 112, adjtimex 159 171,
clock_adjtime 305 266, personality 135 92, ioperm 173 -, iopl 172 -, modify_ldt 154 -, fanotify_init 300 262
"""
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH
CLONE, CLONE3, KILL, TGKILL, PRLIMIT, PRCTL = (56, 220), 435, (62, 129), (234, 131), (302, 261), (157, 167)
FCNTL, SETOWN, SETOWN_EX = (72, 25), 8, 15  # whom the kernel sends a signal when there is something to read
NEWEST = 462  # mseal; a call that came after it is refused, because nobody has looked at it here
ALLOW, ERROR, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, ABOVE, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT, SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data; low halves of two arguments
EPERM, ENOSYS, CLONE_THREAD = 1, 38, 0x10000


def forbidden(column: int) -> dict[str, int]:
    """The forbidden system calls and their numbers; ``column`` is 0 for x86_64 and 1 for aarch64."""
    rows = [row.split() for row in FORBIDDEN.split(",")]
    return {name: int(numbers[column]) for name, *numbers in rows if numbers[column] != "-"}


def bpf(column: int, architecture: int, own: int) -> list[tuple[int, int, int, int]]:
    """The filter as instructions (code, jump if true, jump if false, value); ``own`` is this process's number."""

    def argument(number: int, test: int, value: int, *, refused: bool) -> list[tuple[int, int, int, int]]:
        """Refuse call ``number`` where the test of its first argument comes out as ``refused``."""
        jumps = (0, 1) if refused else (1, 0)
        test_it = [(LOAD, 0, 0, ARGUMENT), (test, *jumps, value), (RETURN, 0, 0, ERROR | EPERM), (RETURN, 0, 0, ALLOW)]
        return [(EQUAL, 0, 4, number), *test_it]

    program = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL_PROCESS)]
    program += [(LOAD, 0, 0, NUMBER), (ABOVE, 0, 1, NEWEST), (RETURN, 0, 0, ERROR | ENOSYS)]
    program += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERROR | ENOSYS)]  # its flags are out of sight; libc uses clone
    for number in forbidden(column).values():
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERROR | EPERM)]
    program += argument(CLONE[column], ANY_BIT, CLONE_THREAD, refused=False)
    program += argument(KILL[column], EQUAL, own, refused=False)
    program += argument(TGKILL[column], EQUAL, own, refused=False)
    program += argument(PRLIMIT[column], EQUAL, 0, refused=False)
    program += argument(PRCTL[column], EQUAL, PDEATHSIG, refused=True)
    program += [(EQUAL, 0, 4, FCNTL[column]), (LOAD, 0, 0, SECOND), (EQUAL, 1, 0, SETOWN), (EQUAL, 0, 1, SETOWN_EX)]
    return [*program, (RETURN, 0, 0, ERROR | EPERM), (RETURN, 0, 0, ALLOW)]


def seccomp() -> str:
    """Forbid sockets, new processes, programs, signals to others, and much else that no check needs; for good."""
    if not LINUX or platform.machine() not in MACHINES:
        return f"there is no filter of system calls for {sys.platform} on {platform.machine()}"
    column, architecture = MACHINES[platform.machine()]
    code = b"".join(struct.pack("HBBI", *line) for line in bpf(column, architecture, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    try:
        prctl(NO_NEW_PRIVS, 1)
        program = _Program(len(code) // 8, ctypes.addressof(buffer))
        prctl(SECCOMP, 2, ctypes.addressof(program))
    except OSError as error:
        return _why(error)
    return STOOD


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


# --- all of them --------------------------------------------------------------------------------------------------
def raise_all(
    reads: Iterable[Path], scratch: Path, limits: dict[str, float], *, apart: str, without: Collection[str] = ()
) -> dict[str, str]:
    """Raise the walls around this process and return each by what it guards, ``"stood"`` or why not.

    ``apart`` is what ``namespaces()`` said; ``without`` leaves out ``"landlock"`` or ``"seccomp"``, for tests of the
    other walls.
    """
    off = "left out"
    walls = resources(limits)
    if apart == STOOD:  # elsewhere the limit counts every process of the same user
        resource.setrlimit(resource.RLIMIT_NPROC, (int(limits["processes"]),) * 2)
    walls["privileges"] = privileges()
    walls |= {"reading": off, "writing": off} if "landlock" in without else landlock(reads, scratch)
    calls = off if "seccomp" in without else seccomp()
    walls["network"] = STOOD if STOOD in (apart, calls) else f"{apart}; {calls}"
    walls["processes"] = calls
    walls["signals"] = STOOD if STOOD in (apart, calls) else f"{apart}; {calls}"
    return walls
