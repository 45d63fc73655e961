"""Bytes of files: reads and writes in all their ways, truncation, files without names."""

import fcntl
import mmap
import os
import stat

import kit
from kit import case, child, give_name, libc, mode, read, start, tries, write

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
TB = 1 << 40


def fallocate(fd, how, offset, length):
    return tries(libc, "fallocate", fd, how, offset, length) or "ok"


def opened(path, flags=os.O_RDWR | os.O_CREAT):
    return os.open(path, flags, 0o644)


def holds(fd):
    """A file's content, runs of one byte shortened."""
    size, told, at = os.fstat(fd).st_size, [], 0
    content = os.pread(fd, size, 0)
    while at < len(content):
        end = at
        while end < len(content) and content[end] == content[at]:
            end += 1
        told.append(f"{content[at]}*{end - at}")
        at = end
    return " ".join(told)


# --- reading and writing ---


@case
def writing_at_places():
    fd = opened("f")
    answers = [
        os.write(fd, b"hello"),
        os.pwrite(fd, b"J", 0),
        os.lseek(fd, 0, os.SEEK_CUR),
        os.pwrite(fd, b"!", 10),
        os.write(fd, b""),
    ]
    answers += [
        os.pread(fd, 100, 3),
        os.pread(fd, 10, 11),
        os.pread(fd, 10, 1000),
        tries(os.pread, fd, 1, -1),
        tries(os.pwrite, fd, b"x", -1),
    ]
    answers += [os.writev(fd, [b"a", b"", b"bc"]), [bytes(part) for part in vector(fd)], os.lseek(fd, 0, os.SEEK_END)]
    answers += [
        tries(os.lseek, fd, -1, os.SEEK_SET),
        tries(os.lseek, fd, -100, os.SEEK_END),
        os.lseek(fd, 1 << 40, os.SEEK_SET),
        os.read(fd, 5),
    ]
    return answers + [tries(os.lseek, fd, 1 << 63 - 1, 99), holds(fd)]


def vector(fd):
    parts = [bytearray(2), bytearray(3)]
    os.preadv(fd, parts, 0)
    return parts


@case
def descriptors_of_the_wrong_kind():
    write("f", b"x"), os.mkdir("d")
    reading, writing, directory, path = (
        opened("f", os.O_RDONLY),
        opened("f", os.O_WRONLY),
        opened("d", os.O_RDONLY),
        opened("f", os.O_PATH),
    )
    answers = [
        tries(os.write, reading, b"y"),
        tries(os.read, writing, 1),
        tries(os.ftruncate, reading, 0),
        tries(os.read, directory, 1),
    ]
    answers += [
        tries(os.write, directory, b"x"),
        tries(os.ftruncate, directory, 0),
        tries(os.truncate, "d", 0),
        tries(os.truncate, "f", -1),
    ]
    answers += [
        tries(call, path, *rest)
        for call, *rest in [
            (os.read, 1),
            (os.write, b"x"),
            (os.ftruncate, 0),
            (os.fchmod, 0o600),
            (os.fchown, 0, 0),
            (os.fsync,),
            (os.lseek, 0, 0),
            (fcntl.flock, fcntl.LOCK_SH),
        ]
    ]
    answers += [
        fallocate(reading, 0, 0, 10),
        fallocate(directory, 0, 0, 10),
        tries(os.fsync, reading),
        tries(os.fsync, directory),
        tries(os.fdatasync, directory),
    ]
    return (
        answers,
        os.fstat(path).st_size,
        tries(mmap.mmap, directory, 10),
        tries(mmap.mmap, writing, 1, mmap.MAP_SHARED, mmap.PROT_READ),
    )


@case
def appending_by_two_processes():
    write("f")

    def appender(letter):
        def run():
            fd = os.open("f", os.O_WRONLY | os.O_APPEND)
            for _ in range(1000):
                os.write(fd, letter * 7 + b"\n")

        return start(run)

    waits = [appender(b"a"), appender(b"b")]
    [wait() for wait in waits]
    lines = read("f").split(b"\n")
    return len(lines), sorted(set(lines)), [lines.count(letter * 7) for letter in (b"a", b"b")]


@case
def appending_means_the_end():
    fd = opened("f", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"one"), os.pwrite(fd, b"two", 0), os.lseek(fd, 0, 0), os.write(fd, b"3")
    place = os.lseek(fd, 0, os.SEEK_CUR)
    other = opened("f")
    os.pwritev(other, [b"four"], 0, os.RWF_APPEND), os.pwrite(other, b"O", 0)
    os.ftruncate(fd, 20), os.write(fd, b"end")
    return place, os.pread(other, 100, 0)


@case
def two_processes_write_their_own_parts():
    write("f")

    def writer(letter, first):
        def run():
            fd = os.open("f", os.O_RDWR)
            for number in range(first, 400, 2):
                os.pwrite(fd, letter * 1000, number * 1000)

        return start(run)

    waits = [writer(b"a", 0), writer(b"b", 1)]
    [wait() for wait in waits]
    return read("f") == (b"a" * 1000 + b"b" * 1000) * 200


@case
def flags_of_single_writes():
    fd = opened("f")
    answers = [
        tries(os.pwritev, fd, [b"x" * 10], 0, flag)
        for flag in (os.RWF_DSYNC, os.RWF_SYNC, os.RWF_APPEND, os.RWF_HIPRI)
    ]
    return answers, tries(os.preadv, fd, [bytearray(5)], 0, os.RWF_HIPRI), os.fstat(fd).st_size


@case
def reading_without_waiting():
    fd = opened("f")
    os.write(fd, b"in memory")
    return (
        tries(os.preadv, fd, [bytearray(5)], 0, os.RWF_NOWAIT),
        tries(os.pwritev, fd, [b"x"], 0, 0x40),
        tries(os.pwritev, fd, [b"x"], 0, 0x1000),
    )


@case
def synchronous_files():
    answers = []
    for flag in (os.O_SYNC, os.O_DSYNC):
        fd = opened(f"f{flag}", os.O_RDWR | os.O_CREAT | flag)
        answers += [
            os.write(fd, b"x" * 10_000),
            os.fstat(fd).st_size,
            fcntl.fcntl(fd, fcntl.F_GETFL) & flag == flag,
            holds(fd),
        ]
    fd = opened(".", os.O_RDONLY)
    answers += [tries(call, descriptor) for call in (os.fsync, os.fdatasync) for descriptor in (fd, opened("f"))]
    return answers, tries(libc, "syncfs", fd), tries(libc, "sync_file_range", opened("f"), 0, 0, 7), tries(os.sync)


@case
def direct_reads_and_writes():
    fd = opened("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    buffer = mmap.mmap(-1, 16384)
    buffer[:] = b"d" * 16384
    answers = [os.pwritev(fd, [memoryview(buffer)[:8192]], 0), os.pwritev(fd, [memoryview(buffer)[:4096]], 12288)]
    cached = opened("f")
    answers += [holds(cached)]
    os.pwrite(cached, b"c" * 5000, 2000)
    answers += [
        os.preadv(fd, [buffer], 0),
        buffer[1999:2001],
        buffer[6999:7001],
        buffer[8192:8193],
        os.preadv(fd, [memoryview(buffer)[:4096]], 12288 + 4096),
    ]
    mapping = mmap.mmap(cached, 16384)
    mapping[100] = ord("m")
    answers += [os.preadv(fd, [memoryview(buffer)[:4096]], 0), buffer[99:102]]
    buffer[:4096] = b"e" * 4096
    os.pwritev(fd, [memoryview(buffer)[:4096]], 0)
    answers += [mapping[100:101], os.pread(cached, 3, 98)]
    os.pwrite(cached, b"tail", 16384)
    answers += [os.preadv(fd, [memoryview(buffer)[:4096]], 16384), buffer[:4], os.fstat(fd).st_size]
    return answers


@case
def direct_writes_that_are_not_aligned():
    fd = opened("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    buffer = mmap.mmap(-1, 16384)
    return [
        tries(os.pwritev, fd, [memoryview(buffer)[:100]], 0),
        tries(os.pwritev, fd, [memoryview(buffer)[:4096]], 100),
        tries(os.pwritev, fd, [memoryview(buffer)[1:4097]], 0),
    ]


@case
def copies_within_the_kernel():
    source, target = opened("s"), opened("t")
    os.write(source, b"0123456789" * 1000), os.write(target, b"x" * 10)
    copy = lambda *args: tries(os.copy_file_range, *args)
    answers = [
        copy(source, target, 5000, 100, 20),
        copy(source, target, 100, 9950, 0),
        copy(source, target, 100, 10_000),
        copy(source, target, 10, 20_000, 0),
    ]
    answers += [
        copy(source, source, 100, 0, 50),
        copy(source, source, 100, 0, 5000),
        copy(source, opened("s", os.O_RDONLY), 10, 0, 0),
    ]
    answers += [
        copy(source, opened("t", os.O_RDWR | os.O_APPEND), 10, 0, 0),
        copy(source, opened(".", os.O_RDONLY), 10, 0, 0),
        copy(source, target, 0, 0, 0),
    ]
    return (
        answers,
        read("t")[:60],
        os.fstat(target).st_size,
        read("s")[4998:5012],
        tries(os.sendfile, target, source, 9990, 100),
        tries(os.splice, source, os.pipe()[1], 100, 0),
        tries(fcntl.ioctl, target, 0x40049409, source),
    )


@case
def truncation():
    fd = opened("f")
    os.write(fd, b"x" * 10_000)
    sizes = []
    for size in (5000, 5000, 12_000, 4096, 8192, 0, 1):
        os.ftruncate(fd, size)
        sizes.append((os.fstat(fd).st_size, holds(fd)))
    os.truncate("f", 3)
    return sizes, read("f"), tries(os.truncate, "absent", 0), tries(os.truncate, "f/x", 0), tries(os.truncate, "", 0)


@case
def what_was_cut_off_does_not_come_back():
    fd = opened("f")
    answers = []
    for cut, grow in [(100, 200), (4096, 9000), (5000, 5001), (0, 10_000), (1, 4097)]:
        os.pwrite(fd, b"x" * 10_000, 0), os.ftruncate(fd, cut)
        if cut % 2:
            os.fsync(fd)
        os.ftruncate(fd, grow)
        answers.append(holds(fd))
        os.ftruncate(fd, cut), os.pwrite(fd, b"y", grow)
        answers.append(holds(fd))
    return answers


@case
def files_of_the_image_cut_and_grown():
    [name] = kit.image_file(["/usr/bin/find"])
    content = read(name)
    os.truncate(name, 10_000), os.truncate(name, 20_000)
    with open(name, "r+b") as file:
        file.seek(5000)
        file.write(b"-")
    return read(name) == content[:5000] + b"-" + content[5001:10_000] + b"\0" * 10_000


# --- files without names ---


@case
def an_unlinked_file_lives_on():
    fd = opened("f")
    os.write(fd, b"content")
    os.unlink("f")
    status = os.fstat(fd)
    answers = [status.st_nlink, status.st_size, os.pread(fd, 10, 0), os.pwrite(fd, b"more", 7), os.pread(fd, 20, 0)]
    os.ftruncate(fd, 100_000), os.fchmod(fd, 0o600), os.fchown(fd, 0, 0), os.utime(fd, ns=(5, 6)), os.setxattr(
        fd, "user.x", b"1"
    )
    status = os.fstat(fd)
    answers += [
        status.st_size,
        stat.filemode(status.st_mode),
        status.st_mtime_ns,
        os.getxattr(fd, "user.x"),
        tries(os.fsync, fd),
    ]
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    os.pwrite(other, b"by the other", 50)
    answers += [os.pread(fd, 12, 50), os.readlink(f"/proc/self/fd/{fd}").endswith("/f (deleted)"), os.listdir(".")]
    write("f", b"a new one")
    return answers, os.fstat(fd).st_ino != os.stat("f").st_ino, os.pread(fd, 7, 0), child(lambda: os.pread(fd, 7, 0))


@case
def temporary_files():
    os.umask(0o027)
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o666)
    status = os.fstat(fd)
    answers = [status.st_nlink, stat.filemode(status.st_mode), os.write(fd, b"temporary"), os.listdir(".")]
    os.setxattr(fd, "user.x", b"1"), os.fchmod(fd, 0o640)
    give_name(fd, "named")
    answers += [
        os.fstat(fd).st_nlink,
        read("named"),
        os.getxattr("named", "user.x"),
        mode("named"),
        os.fstat(fd).st_ino == os.stat("named").st_ino,
    ]
    give_name(fd, "again")
    os.write(fd, b" more")
    answers += [read("again"), tries(give_name, fd, "named")]
    return (
        answers,
        tries(os.open, ".", os.O_TMPFILE | os.O_RDONLY),
        tries(os.open, "named", os.O_TMPFILE | os.O_RDWR),
        tries(os.open, "absent", os.O_TMPFILE | os.O_RDWR),
    )


@case
def temporary_files_that_stay_so():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    os.write(fd, b"x")
    answers = [tries(give_name, fd, "named"), os.pread(fd, 1, 0), os.listdir(".")]
    empty = tries(libc, "linkat", fd, "", -100, "by-descriptor", 0x1000)
    fresh = os.open(".", os.O_TMPFILE | os.O_WRONLY)
    return answers, empty, tries(libc, "linkat", fresh, "", -100, "by-descriptor", 0x1000), os.listdir(".")


@case
def temporary_files_in_many_directories():
    os.makedirs("a/b")
    fd = os.open("a/b", os.O_TMPFILE | os.O_RDWR)
    os.write(fd, b"moved")
    give_name(fd, "a/there")
    os.rmdir("a/b")
    other = os.open("a", os.O_TMPFILE | os.O_RDWR)
    os.unlink("a/there"), os.rmdir("a")
    return os.pread(fd, 10, 0), os.write(other, b"x"), tries(give_name, other, "x")
