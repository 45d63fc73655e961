"""What the cases share: their table, answers, other processes, and the system calls that Python does not know."""

import ctypes
import errno
import os
import pickle
import shutil
import signal
import stat
import struct
import sys
import time
import traceback
from typing import Callable, NamedTuple

HERE = ""  # the running case's directory
OWN_TREE = False  # whether that lies in the container's own tree

# Two users that nothing else is known of, and a group; mapped wherever there is a range of ids.
ALICE, BOB, CLUB = 1001, 1002, 2000

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, AT_EACCESS = 0x100, 0x400, 0x1000, 0x200

LIBC = ctypes.CDLL(None, use_errno=True)


class Case(NamedTuple):
    name: str
    run: Callable
    ids: bool


CASES = []


def case(function=None, *, ids=False):
    """Puts a function into the table; what it returns is the answer."""

    def add(function):
        CASES.append(Case(function.__name__, function, ids))
        return function

    return add(function) if function else add


def tries(call, *args, **named):
    """The call's answer, `ok` for none, or the name of its error."""
    try:
        result = call(*args, **named)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "ok" if result is None else result


def libc(name, *args):
    """A function of the C library that answers -1 for an error."""
    result = getattr(LIBC, name)(*[value(argument) for argument in args])
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def value(argument):
    if isinstance(argument, str):
        return os.fsencode(argument)
    return ctypes.c_long(argument) if isinstance(argument, int) else argument


NUMBERS = {
    "renameat2": 316,
    "statx": 332,
    "faccessat2": 439,
    "openat2": 437,
    "fchmodat2": 452,
    "name_to_handle_at": 303,
    "getdents64": 217,
}


def system(name, *args):
    return libc("syscall", NUMBERS[name], *args)


def child(run, uid=None, gid=None, groups=()):
    """Runs this in another process, as that user if one is given; its answer."""
    return start(run, uid, gid, groups)()


def start(run, uid=None, gid=None, groups=()):
    """The same without waiting: call what comes back for the answer."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            if uid is not None:
                os.setgroups(list(groups))
                os.setresgid(*[gid if gid is not None else uid] * 3)
                os.setresuid(uid, uid, uid)
            result = run()
        except OSError as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            result = f"{errno.errorcode.get(error.errno)} raised by `{place.line}`"
        except BaseException as error:  # a bug of the case: seen in the comparison, whatever it is
            result = f"{type(error).__name__} {error}: {traceback.format_exc().splitlines()[-3:]}"
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(writing)

    def wait():
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            return signal.Signals(os.WTERMSIG(status)).name
        return pickle.loads(answer)

    return wait


def give_name(fd, path):
    """A name for an open file. (Python's `os.link` does not follow /proc's links.)"""
    libc("linkat", AT_FDCWD, f"/proc/self/fd/{fd}", AT_FDCWD, path, AT_SYMLINK_FOLLOW)


def write(path, content=b"", mode=None, owner=None):
    """A file with this content, mode and owner, if given in that order, since chown takes set-id bits."""
    if isinstance(content, str):
        content = content.encode()
    with open(path, "wb") as file:
        file.write(content)
    if owner is not None:
        os.chown(path, *owner)
    if mode is not None:
        os.chmod(path, mode)
    return path


def read(path):
    with open(path, "rb") as file:
        return file.read()


def mode(path):
    """Kind and permissions as `ls` shows them."""
    return stat.filemode(os.lstat(path).st_mode)


def look(path):
    """Mode and owner."""
    status = os.lstat(path)
    return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"


def moved(path, call, *args, follow=True):
    """Which times the call moves, and what it answers if that is an error."""

    def times():
        status = path_status(path, follow)
        return status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns

    before = times()
    time.sleep(0.012)  # longer than a tick of the coarse clock
    result = tries(call, *args)
    after = times()
    letters = "".join(letter for letter, old, new in zip("amc", before, after) if old != new)
    error = f" {result}" if isinstance(result, str) and result != "ok" else ""
    return (letters or "-") + error


def path_status(path, follow):
    return os.fstat(path) if isinstance(path, int) else os.stat(path, follow_symlinks=follow)


def image_file(paths):
    """Takes hard links of one file of the image into the directory, as `image0` and on. In the container's own tree they are
    moved, so they are the image's file still; elsewhere it is a copy of it."""
    names = [f"image{number}" for number in range(len(paths))]
    if OWN_TREE:
        for path, name in zip(paths, names):
            os.rename(path, name)
    else:
        status = os.stat(paths[0])
        write(names[0], read(paths[0]))
        os.chown(names[0], status.st_uid, status.st_gid)
        os.chmod(names[0], status.st_mode & 0o7777)
        for name in names[1:]:
            os.link(names[0], name)
    return names


def image_tree(path, name="image"):
    """The same with a directory of the image and all below it."""
    if OWN_TREE:
        os.rename(path, name)
    else:
        shutil.copytree(path, name, symlinks=True)
    return name


def unpack(layout, buffer):
    return struct.unpack_from(layout, buffer)
