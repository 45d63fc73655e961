"""Bytes of files: reads and writes in all their ways, sparse files, fallocate, limits, files without names."""
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import termios

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
    answers = [os.write(fd, b"hello"), os.pwrite(fd, b"J", 0), os.lseek(fd, 0, os.SEEK_CUR), os.pwrite(fd, b"!", 10), os.write(fd, b"")]
    answers += [os.pread(fd, 100, 3), os.pread(fd, 10, 11), os.pread(fd, 10, 1000), tries(os.pread, fd, 1, -1), tries(os.pwrite, fd, b"x", -1)]
    answers += [os.writev(fd, [b"a", b"", b"bc"]), [bytes(part) for part in vector(fd)], os.lseek(fd, 0, os.SEEK_END)]
    answers += [tries(os.lseek, fd, -1, os.SEEK_SET), tries(os.lseek, fd, -100, os.SEEK_END), os.lseek(fd, 1 << 40, os.SEEK_SET), os.read(fd, 5)]
    return answers + [tries(os.lseek, fd, 1 << 63 - 1, 99), holds(fd)]


def vector(fd):
    parts = [bytearray(2), bytearray(3)]
    os.preadv(fd, parts, 0)
    return parts


@case
def descriptors_of_the_wrong_kind():
    write("f", b"x"), os.mkdir("d")
    reading, writing, directory, path = opened("f", os.O_RDONLY), opened("f", os.O_WRONLY), opened("d", os.O_RDONLY), opened("f", os.O_PATH)
    answers = [tries(os.write, reading, b"y"), tries(os.read, writing, 1), tries(os.ftruncate, reading, 0), tries(os.read, directory, 1)]
    answers += [tries(os.write, directory, b"x"), tries(os.ftruncate, directory, 0), tries(os.truncate, "d", 0), tries(os.truncate, "f", -1)]
    answers += [tries(call, path, *rest) for call, *rest in [(os.read, 1), (os.write, b"x"), (os.ftruncate, 0), (os.fchmod, 0o600),
                                                              (os.fchown, 0, 0), (os.fsync,), (os.lseek, 0, 0), (fcntl.flock, fcntl.LOCK_SH)]]
    answers += [fallocate(reading, 0, 0, 10), fallocate(directory, 0, 0, 10), tries(os.fsync, reading), tries(os.fsync, directory), tries(os.fdatasync, directory)]
    return answers, os.fstat(path).st_size, tries(mmap.mmap, directory, 10), tries(mmap.mmap, writing, 1, mmap.MAP_SHARED, mmap.PROT_READ)


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
    answers = [tries(os.pwritev, fd, [b"x" * 10], 0, flag) for flag in (os.RWF_DSYNC, os.RWF_SYNC, os.RWF_APPEND, os.RWF_HIPRI)]
    return answers, tries(os.preadv, fd, [bytearray(5)], 0, os.RWF_HIPRI), os.fstat(fd).st_size


@case
def reading_without_waiting():
    fd = opened("f")
    os.write(fd, b"in memory")
    return tries(os.preadv, fd, [bytearray(5)], 0, os.RWF_NOWAIT), tries(os.pwritev, fd, [b"x"], 0, 0x40), tries(os.pwritev, fd, [b"x"], 0, 0x1000)


@case
def synchronous_files():
    answers = []
    for flag in (os.O_SYNC, os.O_DSYNC):
        fd = opened(f"f{flag}", os.O_RDWR | os.O_CREAT | flag)
        answers += [os.write(fd, b"x" * 10_000), os.fstat(fd).st_size, fcntl.fcntl(fd, fcntl.F_GETFL) & flag == flag, holds(fd)]
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
    answers += [os.preadv(fd, [buffer], 0), buffer[1999:2001], buffer[6999:7001], buffer[8192:8193], os.preadv(fd, [memoryview(buffer)[:4096]], 12288 + 4096)]
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
    return [tries(os.pwritev, fd, [memoryview(buffer)[:100]], 0), tries(os.pwritev, fd, [memoryview(buffer)[:4096]], 100),
            tries(os.pwritev, fd, [memoryview(buffer)[1:4097]], 0)]


@case
def copies_within_the_kernel():
    source, target = opened("s"), opened("t")
    os.write(source, b"0123456789" * 1000), os.write(target, b"x" * 10)
    copy = lambda *args: tries(os.copy_file_range, *args)
    answers = [copy(source, target, 5000, 100, 20), copy(source, target, 100, 9950, 0), copy(source, target, 100, 10_000), copy(source, target, 10, 20_000, 0)]
    answers += [copy(source, source, 100, 0, 50), copy(source, source, 100, 0, 5000), copy(source, opened("s", os.O_RDONLY), 10, 0, 0)]
    answers += [copy(source, opened("t", os.O_RDWR | os.O_APPEND), 10, 0, 0), copy(source, opened(".", os.O_RDONLY), 10, 0, 0), copy(source, target, 0, 0, 0)]
    return answers, read("t")[:60], os.fstat(target).st_size, read("s")[4998:5012], \
        tries(os.sendfile, target, source, 9990, 100), tries(os.splice, source, os.pipe()[1], 100, 0), tries(fcntl.ioctl, target, 0x40049409, source)


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


# --- sparse files and space ---

@case
def sparse_files():
    fd = opened("f")
    os.pwrite(fd, b"a", 0), os.pwrite(fd, b"b", 10_000_000), os.fsync(fd)
    blocks = os.fstat(fd).st_blocks
    return os.fstat(fd).st_size, blocks <= 32, os.pread(fd, 10, 5_000_000), os.pread(fd, 2, 9_999_999)


@case
def seeking_data_and_holes():
    fd = opened("f")
    os.pwrite(fd, b"a" * 4096, 0), os.pwrite(fd, b"b" * 4096, 1 << 20), os.fsync(fd)
    answers = [tries(os.lseek, fd, place, how) for how in (os.SEEK_DATA, os.SEEK_HOLE) for place in (0, 4096, 1 << 20)]
    end = (1 << 20) + 4096
    return answers, [tries(os.lseek, fd, place, how) for how in (os.SEEK_DATA, os.SEEK_HOLE) for place in (end, end + 1, -1)]


@case
def seeking_data_and_holes_is_consistent():
    fd = opened("f")
    os.pwrite(fd, b"a" * 4096, 0), os.pwrite(fd, b"b" * 4096, 1 << 20)
    found, place = b"", 0
    while (place := tries(os.lseek, fd, place, os.SEEK_DATA)) != "ENXIO":
        hole = os.lseek(fd, place, os.SEEK_HOLE)
        found += os.pread(fd, hole - place, place).replace(b"\0", b"")
        place = hole
    return len(found), place


@case
def allocating():
    answers = []
    for how in (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE):
        fd = opened(f"f{how}")
        os.write(fd, b"x" * 10_000)
        answers.append((how, fallocate(fd, how, 5000, 2000), holds(fd), fallocate(fd, how, 9000, 3000), holds(fd), fallocate(fd, how, 20_000, 100), holds(fd)))
        os.pwrite(fd, b"y", 30_000)
        answers.append(holds(fd))
    return answers


@case
def allocating_in_ways_that_are_refused():
    fd = opened("f")
    os.write(fd, b"x" * 10_000)
    answers = [fallocate(fd, how, 0, 4096) for how in (PUNCH_HOLE, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, UNSHARE, 128, 4, COLLAPSE | KEEP_SIZE)]
    answers += [fallocate(fd, 0, place, length) for place, length in ((-1, 10), (0, 0), (0, -1), ((1 << 63) - 1, 10))]
    os.mkfifo("p")
    return answers, fallocate(os.open("p", os.O_RDWR), 0, 0, 10), holds(fd)


@case
def collapsing_and_inserting():
    fd = opened("f")
    os.write(fd, b"x" * 4096 + b"y" * 4096)
    return fallocate(fd, COLLAPSE, 0, 4096), holds(fd), fallocate(fd, INSERT, 0, 4096), holds(fd)


@case
def allocated_space_is_counted():
    fd = opened("f")
    os.ftruncate(fd, 1 << 20), fallocate(fd, 0, 0, 1 << 20), os.fsync(fd)
    before = os.fstat(fd).st_blocks
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 1 << 20)
    os.fsync(fd)
    return os.fstat(fd).st_size, before >= 2048, os.fstat(fd).st_blocks <= 16


@case
def files_of_8_terabytes():
    fd = opened("f")
    os.ftruncate(fd, 8 * TB)
    os.pwrite(fd, b"middle", 4 * TB), os.pwrite(fd, b"end", 8 * TB - 3), os.pwrite(fd, b"past", 8 * TB + 4096)
    os.fsync(fd)
    status = os.stat("f")
    answers = [status.st_size, status.st_blocks <= 64, os.pread(fd, 8, 4 * TB - 1), os.pread(fd, 10, 8 * TB - 4), os.lseek(fd, -4, os.SEEK_END), os.read(fd, 9)]
    mapping = mmap.mmap(fd, 4096, offset=4 * TB)
    mapping[4095] = 90
    mapping.flush()
    answers += [os.pread(fd, 2, 4 * TB + 4095), fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 4096, 8 * TB), os.pread(fd, 6, 4 * TB), os.fstat(fd).st_size]
    os.ftruncate(fd, 1)
    return answers, os.fstat(fd).st_size


@case
def the_largest_offsets():
    fd = opened("f")
    most = (1 << 63) - 1
    return [tries(os.ftruncate, fd, most), tries(os.pwrite, fd, b"xy", most - 1), tries(os.pwrite, fd, b"x", most),
            tries(os.pread, fd, 10, most - 5), os.fstat(fd).st_size]


@case
def offsets_between_ext4s_largest_and_ours():
    fd = opened("f")
    return tries(os.ftruncate, fd, 1 << 60), tries(os.pwrite, fd, b"x", 1 << 60), tries(os.lseek, fd, (1 << 63) - 1, os.SEEK_SET), os.fstat(fd).st_size


@case
def a_limit_on_the_size_of_files():
    def run():
        fd = opened("f")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        answers = [os.pwrite(fd, b"x" * 9000, 0), os.pwrite(fd, b"y" * 2000, 9000), tries(os.pwrite, fd, b"z", 10_000), tries(os.ftruncate, fd, 10_001),
                   tries(os.ftruncate, fd, 10_000), fallocate(fd, 0, 0, 20_000), tries(os.truncate, "f", 20_000)]
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        return answers, os.fstat(fd).st_size

    def killed():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.pwrite(opened("g"), b"x", 1000)
    return child(run), child(killed)


# --- files without names ---

@case
def an_unlinked_file_lives_on():
    fd = opened("f")
    os.write(fd, b"content")
    os.unlink("f")
    status = os.fstat(fd)
    answers = [status.st_nlink, status.st_size, os.pread(fd, 10, 0), os.pwrite(fd, b"more", 7), os.pread(fd, 20, 0)]
    os.ftruncate(fd, 100_000), os.fchmod(fd, 0o600), os.fchown(fd, 0, 0), os.utime(fd, ns=(5, 6)), os.setxattr(fd, "user.x", b"1")
    status = os.fstat(fd)
    answers += [status.st_size, stat.filemode(status.st_mode), status.st_mtime_ns, os.getxattr(fd, "user.x"), tries(os.fsync, fd)]
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
    answers += [os.fstat(fd).st_nlink, read("named"), os.getxattr("named", "user.x"), mode("named"), os.fstat(fd).st_ino == os.stat("named").st_ino]
    give_name(fd, "again")
    os.write(fd, b" more")
    answers += [read("again"), tries(give_name, fd, "named")]
    return answers, tries(os.open, ".", os.O_TMPFILE | os.O_RDONLY), tries(os.open, "named", os.O_TMPFILE | os.O_RDWR), tries(os.open, "absent", os.O_TMPFILE | os.O_RDWR)


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


# --- what the filesystem says of itself ---

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
    return [state.f_namemax, state.f_bsize, state.f_frsize, 0 < state.f_bavail <= state.f_bfree <= state.f_blocks,
            0 < state.f_favail <= state.f_ffree <= state.f_files, before - after > (48 << 20) / state.f_frsize,
            os.fstatvfs(fd).f_blocks == state.f_blocks, bool(state.f_flag & os.ST_RDONLY), os.pathconf(".", "PC_NAME_MAX"), os.pathconf(".", "PC_PATH_MAX")]


@case
def what_stat_says_of_small_files():
    fd = opened("f")
    empty = os.fstat(fd)
    os.write(fd, b"x"), os.fsync(fd)
    one = os.fstat(fd)
    os.pwrite(fd, b"x" * 10_000, 0), os.fsync(fd)
    return [(status.st_size, status.st_blocks, status.st_blksize, status.st_nlink, status.st_rdev) for status in (empty, one, os.fstat(fd))]


@case
def what_stat_says_of_directories():
    os.mkdir("d")
    status = os.stat("d")
    small = [status.st_size, status.st_blocks, status.st_nlink, status.st_blksize, status.st_rdev]
    return small, os.lseek(os.open("d", os.O_RDONLY), 0, os.SEEK_CUR), child(lambda: os.stat("d").st_dev == os.stat(".").st_dev)


def statx(path, mask, flags=0):
    buffer = ctypes.create_string_buffer(256)
    libc("statx", -100, path, flags, mask, buffer)
    return buffer.raw


@case
def what_statx_says():
    write("f", b"12345", mode=0o640)
    raw, status = statx("f", 0x7ff), os.stat("f")
    told = kit.unpack("IIQIIIHHQQQQ", raw[:64])
    return told[0] & 0x7ff, told[4] == status.st_uid, told[6] == status.st_mode, told[8] == status.st_ino, told[9], [
        tries(statx, "f", 1 << 31), tries(statx, "absent", 0x7ff), bool(tries(statx, "f", 0x7ff, 0x2000)), bool(tries(statx, "f", 0x7ff, 0x4000))]


@case
def the_time_of_birth():
    write("f")
    raw = statx("f", 0xfff)
    return bool(kit.unpack("I", raw[:4])[0] & 0x800)


@case
def handles_of_files():
    write("f")
    handle, mount = ctypes.create_string_buffer(b"\x80\0\0\0", 136), ctypes.c_int()
    return tries(kit.system, "name_to_handle_at", -100, "f", handle, ctypes.byref(mount), 0)


@case
def attributes_of_the_inode():
    fd, buffer = opened("f"), bytearray(8)
    return [tries(lambda: len(fcntl.ioctl(fd, request, bytes(size)))) for request, size in ((0x80086601, 8), (0x801c581f, 28), (0x80087601, 8))]


@case
def extents_of_a_file():
    fd = opened("f")
    os.write(fd, b"x" * 4096)
    return tries(lambda: len(fcntl.ioctl(fd, 0xC020660B, b"\0" * 8 + b"\xff" * 8 + b"\1" + b"\0" * 15)))


@case
def flags_of_opening():
    write("f", b"content"), os.mkdir("d")
    opens = lambda path, flags: tries(lambda: os.close(os.open(path, flags, 0o600)))
    answers = [opens("f", os.O_RDONLY | os.O_TRUNC), os.path.getsize("f"), opens("new", os.O_CREAT | os.O_DIRECTORY), os.path.exists("new")]
    answers += [opens("d", os.O_CREAT | os.O_DIRECTORY), opens("f", os.O_PATH | os.O_CREAT | os.O_TRUNC), opens("f", os.O_WRONLY | os.O_NOFOLLOW), opens("f", 3)]
    answers += [opens("f", os.O_TMPFILE | os.O_RDWR), opens("d", os.O_TMPFILE), opens("f", os.O_DIRECT), opens("d", os.O_DIRECT), opens("locked", os.O_CREAT | os.O_WRONLY)]
    fd = os.open("zero", os.O_CREAT | os.O_RDWR, 0)
    answers += [os.write(fd, b"written without permission"), mode("zero")]
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_APPEND | os.O_DIRECT | os.O_NOATIME | os.O_NONBLOCK)
    return answers, [bool(fcntl.fcntl(fd, fcntl.F_GETFL) & flag) for flag in (os.O_APPEND, os.O_DIRECT, os.O_NOATIME, os.O_NONBLOCK)]


def openat2(path, flags, resolve, how=0):
    return tries(lambda: os.close(kit.system("openat2", -100, path, struct.pack("QQQ", flags, how, resolve), 24)))


@case
def openings_that_stay_below():
    os.makedirs("d/e"), write("d/f"), os.symlink("/etc/passwd", "d/out"), os.symlink("f", "d/in"), os.symlink("../d/f", "d/up")
    answers = [[openat2(path, os.O_RDONLY, resolve) for path in ("d/f", "d/in", "d/up", "d/out", "../x", "/etc/passwd", "d/../d/f")] for resolve in (0, 1, 2, 4, 8, 16)]
    return answers, openat2("d/f", os.O_RDONLY, 64), openat2("n", os.O_CREAT | os.O_RDWR, 8, 0o640), openat2("d", os.O_RDONLY, 0, 0o640)


@case
def questions_by_ioctl():
    fd = opened("f")
    os.write(fd, b"x" * 5000), os.lseek(fd, 1000, 0)
    ask = lambda request: tries(lambda: kit.unpack("i", fcntl.ioctl(fd, request, b"\0" * 8)))
    return ask(termios.FIONREAD), ask(2), ask(0x5460), tries(fcntl.ioctl, fd, 0x5401, b"\0" * 100), tries(fcntl.ioctl, fd, 0xDEAD), \
        tries(fcntl.fcntl, fd, 1035, b"\0" * 8), tries(fcntl.fcntl, fd, 1033, 1), tries(fcntl.fcntl, fd, 1034)


@case
def copies_between_descriptors_of_many_kinds():
    source, target, pipe = opened("s"), opened("t"), os.pipe()
    os.write(source, b"0123456789" * 10)
    answers = [os.splice(source, pipe[1], 50, offset_src=10), os.splice(pipe[0], target, 50, offset_dst=7), os.sendfile(target, source, 0, 5)]
    left, right = socket.socketpair()
    answers += [os.sendfile(left.fileno(), source, 90, 100), right.recv(100)]
    os.write(pipe[1], b"tail")
    answers += [os.splice(pipe[0], target, 4), holds(target), tries(os.splice, source, target, 5), tries(os.sendfile, source, opened(".", os.O_RDONLY), 0, 5)]
    return answers


@case
def advice():
    fd = opened("f")
    os.write(fd, b"x" * 100_000)
    answers = [tries(os.posix_fadvise, fd, 0, 0, how) for how in range(6)] + [tries(os.posix_fadvise, fd, 0, 0, 99)]
    return answers, tries(libc, "readahead", fd, 0, 100_000), holds(fd)
