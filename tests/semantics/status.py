"""What the filesystem says of itself and of files; how files are opened and asked."""

import ctypes
import fcntl
import os
import socket
import struct
import termios

import kit
from kit import case, child, libc, mode, tries, write
from data import holds, opened


@case
def what_statfs_says():
    state = os.statvfs(".")
    buffer = ctypes.create_string_buffer(200)
    libc("statfs", ".", buffer)
    before = state.f_bfree
    fd = opened("f")
    os.posix_fallocate(fd, 0, 64 << 20)
    os.fsync(fd)
    after = os.statvfs(".").f_bfree
    return [
        state.f_namemax,
        state.f_bsize,
        state.f_frsize,
        0 < state.f_bavail <= state.f_bfree <= state.f_blocks,
        0 < state.f_favail <= state.f_ffree <= state.f_files,
        before - after > (48 << 20) / state.f_frsize,
        os.fstatvfs(fd).f_blocks == state.f_blocks,
        bool(state.f_flag & os.ST_RDONLY),
        os.pathconf(".", "PC_NAME_MAX"),
        os.pathconf(".", "PC_PATH_MAX"),
    ]


@case
def what_stat_says_of_small_files():
    fd = opened("f")
    empty = os.fstat(fd)
    os.write(fd, b"x"), os.fsync(fd)
    one = os.fstat(fd)
    os.pwrite(fd, b"x" * 10_000, 0), os.fsync(fd)
    return [
        (status.st_size, status.st_blocks, status.st_blksize, status.st_nlink, status.st_rdev)
        for status in (empty, one, os.fstat(fd))
    ]


@case
def what_stat_says_of_directories():
    os.mkdir("d")
    status = os.stat("d")
    small = [status.st_size, status.st_blocks, status.st_nlink, status.st_blksize, status.st_rdev]
    return (
        small,
        os.lseek(os.open("d", os.O_RDONLY), 0, os.SEEK_CUR),
        child(lambda: os.stat("d").st_dev == os.stat(".").st_dev),
    )


def statx(path, mask, flags=0):
    buffer = ctypes.create_string_buffer(256)
    libc("statx", -100, path, flags, mask, buffer)
    return buffer.raw


@case
def what_statx_says():
    write("f", b"12345", mode=0o640)
    raw, status = statx("f", 0x7FF), os.stat("f")
    told = kit.unpack("IIQIIIHHQQQQ", raw[:64])
    return (
        told[0] & 0x7FF,
        told[4] == status.st_uid,
        told[6] == status.st_mode,
        told[8] == status.st_ino,
        told[9],
        [
            tries(statx, "f", 1 << 31),
            tries(statx, "absent", 0x7FF),
            bool(tries(statx, "f", 0x7FF, 0x2000)),
            bool(tries(statx, "f", 0x7FF, 0x4000)),
        ],
    )


@case
def the_time_of_birth():
    write("f")
    raw = statx("f", 0xFFF)
    return bool(kit.unpack("I", raw[:4])[0] & 0x800)


@case
def handles_of_files():
    write("f")
    handle, mount = ctypes.create_string_buffer(b"\x80\0\0\0", 136), ctypes.c_int()
    return tries(kit.system, "name_to_handle_at", -100, "f", handle, ctypes.byref(mount), 0)


@case
def attributes_of_the_inode():
    fd, buffer = opened("f"), bytearray(8)
    return [
        tries(lambda: len(fcntl.ioctl(fd, request, bytes(size))))
        for request, size in ((0x80086601, 8), (0x801C581F, 28), (0x80087601, 8))
    ]


@case
def extents_of_a_file():
    fd = opened("f")
    os.write(fd, b"x" * 4096)
    return tries(lambda: len(fcntl.ioctl(fd, 0xC020660B, b"\0" * 8 + b"\xff" * 8 + b"\1" + b"\0" * 15)))


@case
def flags_of_opening():
    write("f", b"content"), os.mkdir("d")
    opens = lambda path, flags: tries(lambda: os.close(os.open(path, flags, 0o600)))
    answers = [
        opens("f", os.O_RDONLY | os.O_TRUNC),
        os.path.getsize("f"),
        opens("new", os.O_CREAT | os.O_DIRECTORY),
        os.path.exists("new"),
    ]
    answers += [
        opens("d", os.O_CREAT | os.O_DIRECTORY),
        opens("f", os.O_PATH | os.O_CREAT | os.O_TRUNC),
        opens("f", os.O_WRONLY | os.O_NOFOLLOW),
        opens("f", 3),
    ]
    answers += [
        opens("f", os.O_TMPFILE | os.O_RDWR),
        opens("d", os.O_TMPFILE),
        opens("f", os.O_DIRECT),
        opens("d", os.O_DIRECT),
        opens("locked", os.O_CREAT | os.O_WRONLY),
    ]
    fd = os.open("zero", os.O_CREAT | os.O_RDWR, 0)
    answers += [os.write(fd, b"written without permission"), mode("zero")]
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_APPEND | os.O_DIRECT | os.O_NOATIME | os.O_NONBLOCK)
    return answers, [
        bool(fcntl.fcntl(fd, fcntl.F_GETFL) & flag)
        for flag in (os.O_APPEND, os.O_DIRECT, os.O_NOATIME, os.O_NONBLOCK)
    ]


def openat2(path, flags, resolve, how=0):
    return tries(lambda: os.close(kit.system("openat2", -100, path, struct.pack("QQQ", flags, how, resolve), 24)))


@case
def openings_that_stay_below():
    os.makedirs("d/e"), write("d/f"), os.symlink("/etc/passwd", "d/out"), os.symlink("f", "d/in"), os.symlink(
        "../d/f", "d/up"
    )
    answers = [
        [
            openat2(path, os.O_RDONLY, resolve)
            for path in ("d/f", "d/in", "d/up", "d/out", "../x", "/etc/passwd", "d/../d/f")
        ]
        for resolve in (0, 1, 2, 4, 8, 16)
    ]
    return (
        answers,
        openat2("d/f", os.O_RDONLY, 64),
        openat2("n", os.O_CREAT | os.O_RDWR, 8, 0o640),
        openat2("d", os.O_RDONLY, 0, 0o640),
    )


@case
def questions_by_ioctl():
    fd = opened("f")
    os.write(fd, b"x" * 5000), os.lseek(fd, 1000, 0)
    ask = lambda request: tries(lambda: kit.unpack("i", fcntl.ioctl(fd, request, b"\0" * 8)))
    return (
        ask(termios.FIONREAD),
        ask(2),
        ask(0x5460),
        tries(fcntl.ioctl, fd, 0x5401, b"\0" * 100),
        tries(fcntl.ioctl, fd, 0xDEAD),
        tries(fcntl.fcntl, fd, 1035, b"\0" * 8),
        tries(fcntl.fcntl, fd, 1033, 1),
        tries(fcntl.fcntl, fd, 1034),
    )


@case
def copies_between_descriptors_of_many_kinds():
    source, target, pipe = opened("s"), opened("t"), os.pipe()
    os.write(source, b"0123456789" * 10)
    answers = [
        os.splice(source, pipe[1], 50, offset_src=10),
        os.splice(pipe[0], target, 50, offset_dst=7),
        os.sendfile(target, source, 0, 5),
    ]
    left, right = socket.socketpair()
    answers += [os.sendfile(left.fileno(), source, 90, 100), right.recv(100)]
    os.write(pipe[1], b"tail")
    answers += [
        os.splice(pipe[0], target, 4),
        holds(target),
        tries(os.splice, source, target, 5),
        tries(os.sendfile, source, opened(".", os.O_RDONLY), 0, 5),
    ]
    return answers


@case
def advice():
    fd = opened("f")
    os.write(fd, b"x" * 100_000)
    answers = [tries(os.posix_fadvise, fd, 0, 0, how) for how in range(6)] + [tries(os.posix_fadvise, fd, 0, 0, 99)]
    return answers, tries(libc, "readahead", fd, 0, 100_000), holds(fd)
