"""Locks of all three kinds, and leases."""

import fcntl
import os
import signal
import struct

from kit import case, child, start, tries, write

OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38


def lock(kind, start=0, length=0):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def locked(fd, kind, start=0, length=0, command=fcntl.F_SETLK):
    answer = tries(fcntl.fcntl, fd, command, lock(kind, start, length))
    return "ok" if isinstance(answer, bytes) else answer


def holder(fd, kind, start=0, length=0, command=fcntl.F_GETLK):
    """Who is in the way: kind, start, length, and whether a pid is told."""
    found, _, begin, size, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, command, lock(kind, start, length)))
    kinds = {fcntl.F_RDLCK: "read", fcntl.F_WRLCK: "write", fcntl.F_UNLCK: "none"}
    return kinds[found], begin, size, "self" if pid == os.getpid() else "parent" if pid == os.getppid() else pid


def flocked(how, path="f"):
    with open(path) as file:
        return tries(fcntl.flock, file, how | fcntl.LOCK_NB)


@case
def flock_excludes_another_process():
    file = open(write("f"))
    answers = []
    for how in [fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_UN]:
        fcntl.flock(file, how)
        answers += [child(lambda: flocked(fcntl.LOCK_SH)), child(lambda: flocked(fcntl.LOCK_EX))]
    return answers


@case
def flock_belongs_to_the_open_file():
    first, second = open(write("f")), open("f")
    fcntl.flock(first, fcntl.LOCK_SH)
    answers = [flocked(fcntl.LOCK_EX), tries(fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB)]
    answers.append(tries(fcntl.flock, first, fcntl.LOCK_EX | fcntl.LOCK_NB))
    second.close()
    copy = os.dup(first.fileno())
    first.close()
    answers.append(flocked(fcntl.LOCK_EX))
    os.close(copy)
    return answers + [flocked(fcntl.LOCK_EX)]


@case
def flock_waits_and_is_given():
    file = open(write("f"))
    fcntl.flock(file, fcntl.LOCK_EX)
    reading, writing = os.pipe()

    def waiter():
        with open("f") as own:
            os.write(writing, b"about to")
            fcntl.flock(own, fcntl.LOCK_EX)
            return "given"

    answer = start(waiter)
    os.read(reading, 8)
    fcntl.flock(file, fcntl.LOCK_UN)
    return answer()


@case
def flock_of_directories_and_hard_links():
    os.mkdir("d")
    directory = os.open("d", os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    os.link(write("f"), "g")
    file = open("f")
    fcntl.flock(file, fcntl.LOCK_EX)
    other = os.open("d", os.O_RDONLY)
    return tries(fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB), flocked(fcntl.LOCK_SH, "g")


@case
def posix_ranges_between_processes():
    fd = os.open(write("f", b"x" * 100), os.O_RDWR)
    locked(fd, fcntl.F_WRLCK, 10, 20)
    locked(fd, fcntl.F_RDLCK, 50, 0)
    locked(fd, fcntl.F_UNLCK, 15, 5)

    def other():
        own = os.open("f", os.O_RDWR)
        return [
            holder(own, fcntl.F_WRLCK),
            holder(own, fcntl.F_WRLCK, 12, 6),
            holder(own, fcntl.F_RDLCK, 40),
            locked(own, fcntl.F_WRLCK, 15, 5),
            locked(own, fcntl.F_WRLCK, 15, 6),
            locked(own, fcntl.F_RDLCK, 1000, 1),
            locked(own, fcntl.F_WRLCK, 1000, 1),
        ]

    return child(other)


@case
def posix_locks_belong_to_the_process():
    fd = os.open(write("f"), os.O_RDWR)
    locked(fd, fcntl.F_WRLCK)
    inherited = child(lambda: locked(fd, fcntl.F_WRLCK))
    os.close(os.open("f", os.O_RDONLY))  # any close lets them go
    return inherited, child(lambda: locked(fd, fcntl.F_WRLCK))


@case
def posix_locks_want_the_right_access():
    reading, writing = os.open(write("f"), os.O_RDONLY), os.open("f", os.O_WRONLY)
    return [
        locked(reading, fcntl.F_RDLCK),
        locked(reading, fcntl.F_WRLCK),
        locked(writing, fcntl.F_RDLCK),
        locked(writing, fcntl.F_WRLCK),
        locked(reading, fcntl.F_RDLCK, -1),
        locked(reading, 7),
    ]


@case
def posix_deadlock_is_found():
    fd = os.open(write("f", b"ab"), os.O_RDWR)
    locked(fd, fcntl.F_WRLCK, 0, 1)
    reading, writing = os.pipe()

    def other():
        own = os.open("f", os.O_RDWR)
        locked(own, fcntl.F_WRLCK, 1, 1)
        os.write(writing, b"x")
        return locked(own, fcntl.F_WRLCK, 0, 1, fcntl.F_SETLKW)

    waiting = start(other)
    os.read(reading, 1)
    mine = locked(fd, fcntl.F_WRLCK, 1, 1, fcntl.F_SETLKW)
    if mine == "EDEADLOCK":
        locked(fd, fcntl.F_UNLCK)
    return sorted([mine, waiting()])  # which of the two hears of it is chance


@case
def ofd_locks_belong_to_the_open_file():
    first, second = os.open(write("f", b"x" * 10), os.O_RDWR), os.open("f", os.O_RDWR)
    answers = [locked(first, fcntl.F_WRLCK, 2, 3, OFD_SETLK), locked(second, fcntl.F_WRLCK, 4, 1, OFD_SETLK)]
    answers.append(holder(second, fcntl.F_RDLCK, 0, 0, OFD_GETLK))
    os.close(os.open("f", os.O_RDONLY))
    answers.append(locked(second, fcntl.F_RDLCK, 4, 1, OFD_SETLK))
    answers.append(
        child(lambda: [locked(first, fcntl.F_WRLCK, 0, 9, OFD_SETLK), locked(second, fcntl.F_RDLCK, 0, 1, OFD_SETLK)])
    )
    os.close(first)
    return answers + [locked(second, fcntl.F_WRLCK, 0, 0, OFD_SETLK)]


@case
def the_kinds_of_locks_and_each_other():
    one, two = os.open(write("f"), os.O_RDWR), os.open("f", os.O_RDWR)
    answers = [tries(fcntl.flock, one, fcntl.LOCK_EX | fcntl.LOCK_NB), locked(two, fcntl.F_WRLCK)]
    return answers + [locked(one, fcntl.F_WRLCK, 0, 0, OFD_SETLK), holder(one, fcntl.F_WRLCK, 0, 0, OFD_GETLK)[0]]


@case
def locks_of_an_unlinked_file():
    fd = os.open(write("f"), os.O_RDWR)
    os.unlink("f")
    fcntl.flock(fd, fcntl.LOCK_EX)
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    return tries(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB), locked(fd, fcntl.F_WRLCK)


LEASES = {fcntl.F_RDLCK: "read", fcntl.F_WRLCK: "write", fcntl.F_UNLCK: "none"}


def leased(fd, kind):
    result = tries(fcntl.fcntl, fd, fcntl.F_SETLEASE, kind)
    return result if isinstance(result, str) else LEASES[fcntl.fcntl(fd, fcntl.F_GETLEASE)]


@case
def leases_want_a_file_that_nobody_has_open():
    reading = os.open(write("f"), os.O_RDONLY)
    answers = [leased(reading, fcntl.F_RDLCK), leased(reading, fcntl.F_UNLCK), leased(reading, fcntl.F_WRLCK)]
    leased(reading, fcntl.F_UNLCK)
    writing = os.open("f", os.O_RDWR)
    answers += [leased(reading, fcntl.F_RDLCK), leased(writing, fcntl.F_RDLCK), leased(writing, fcntl.F_WRLCK)]
    os.close(reading)
    answers += [leased(writing, fcntl.F_WRLCK), leased(os.open(".", os.O_RDONLY), fcntl.F_RDLCK)]
    return answers


def broken(kind, opening, path="f"):
    """What another process meets, and whether the holder hears of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    fd = os.open(write(path, b"x"), os.O_RDONLY if kind == fcntl.F_RDLCK else os.O_RDWR)
    got = leased(fd, kind)
    answer = child(lambda: tries(lambda: os.close(os.open(path, opening | os.O_NONBLOCK))))
    heard = signal.sigtimedwait([signal.SIGIO], 0) is not None
    return got, answer, heard, tries(lambda: LEASES[fcntl.fcntl(fd, fcntl.F_GETLEASE)])


@case
def a_read_lease_is_broken_by_a_writer():
    return broken(fcntl.F_RDLCK, os.O_RDONLY), broken(fcntl.F_RDLCK, os.O_WRONLY, "g")


@case
def a_write_lease_is_broken_by_anybody():
    return broken(fcntl.F_WRLCK, os.O_RDONLY)


@case
def a_lease_is_broken_by_truncation():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    fd = os.open(write("f", b"xy"), os.O_RDONLY)
    leased(fd, fcntl.F_RDLCK)
    cut = start(lambda: tries(os.truncate, "f", 1))
    heard = signal.sigtimedwait([signal.SIGIO], 10) is not None
    leased(fd, fcntl.F_UNLCK)
    return heard, cut(), os.path.getsize("f")
