"""Mapped files."""

import ctypes
import mmap
import os

from kit import case, child, image_file, libc, read, start, tries, write

PAGE = 4096


def shared(path, length=PAGE, flags=os.O_RDWR):
    fd = os.open(path, flags)
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if flags != os.O_RDONLY else 0)
    return mmap.mmap(fd, length, mmap.MAP_SHARED, protection), fd


@case
def two_processes_share_a_mapping():
    write("f", b"\0" * 8192)
    mine, fd = shared("f", 8192)
    ready, go = os.pipe(), os.pipe()

    def other():
        theirs, _ = shared("f", 8192)
        theirs[5000] = 1
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        return theirs[6000], theirs[5000]

    answer = start(other)
    os.read(ready[0], 1)
    seen = mine[5000]
    mine[6000] = 2
    os.write(go[1], b"x")
    return seen, answer(), os.pread(fd, 1, 6000), read("f")[5000]


@case
def mappings_writes_and_reads_agree():
    write("f", b"a" * 10_000)
    mapping, fd = shared("f", 10_000)
    os.pwrite(fd, b"written", 4090)
    answers = [mapping[4088:4099]]
    mapping[4093:4096] = b"MAP"
    answers += [os.pread(fd, 11, 4088)]
    os.unlink("f")
    mapping[0] = 90
    return answers, os.pread(fd, 2, 0), tries(mapping.flush), child(lambda: os.pread(fd, 2, 0))


@case
def private_mappings_change_nothing():
    write("f", b"a" * PAGE)
    fd = os.open("f", os.O_RDONLY)
    mapping = mmap.mmap(fd, PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    mapping[0] = 90
    write_fd = os.open("f", os.O_WRONLY)
    os.pwrite(write_fd, b"b", 1)
    return read("f")[:2], mapping[0], tries(mmap.mmap, fd, PAGE, mmap.MAP_SHARED, mmap.PROT_WRITE)


@case
def mapped_bytes_last():
    write("f", b"a" * PAGE * 3)
    mapping, fd = shared("f", PAGE * 3)
    mapping[PAGE] = 98
    answers = [tries(mapping.flush), tries(mapping.flush, PAGE, PAGE), tries(lambda: mapping.flush(1, PAGE))]
    mapping.close()
    os.fsync(fd), os.close(fd)
    return answers, read("f")[PAGE - 1 : PAGE + 2]


@case
def what_is_not_needed_is_read_again():
    write("f", b"a" * PAGE * 2)
    mapping, fd = shared("f", PAGE * 2)
    mapping[0] = 98
    mapping.madvise(mmap.MADV_DONTNEED)
    answers = [mapping[0], mapping[1]]
    os.fsync(fd), os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    private = mmap.mmap(fd, PAGE * 2, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    private[0] = 99
    private.madvise(mmap.MADV_DONTNEED)
    answers += [private[0], tries(mapping.madvise, mmap.MADV_WILLNEED), tries(mapping.madvise, mmap.MADV_RANDOM)]
    return answers, tries(mapping.madvise, 9), os.pread(fd, 2, 0)  # MADV_REMOVE punches a hole


@case
def mappings_of_what_is_not_there():
    write("f", b"x" * 100), write("empty")
    fd = os.open("f", os.O_RDWR)
    mapping = raw_mapping(fd, PAGE)
    answers = [mapping[99:103], child(lambda: raw_mapping(os.open("empty", os.O_RDWR), PAGE)[0])]

    def behind():
        wide = raw_mapping(fd, PAGE)
        os.ftruncate(fd, 0)
        return wide[0]

    answers += [child(behind)]
    os.ftruncate(fd, 200)
    return answers, mapping[99:103]


def raw_mapping(fd, length):
    """Without Python's own check that the file is as long as the mapping."""
    LIBC = ctypes.CDLL(None, use_errno=True)
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    return (ctypes.c_ubyte * length).from_address(LIBC.mmap(None, length, 3, 1, fd, 0))


def tail(grow, size=100):
    """Bytes written through a mapping behind the end of the file, and what is there when the file has grown over them."""
    fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"a" * size)
    mapping = raw_mapping(fd, PAGE)
    mapping[200] = 7
    grow(fd)
    seen = os.pread(fd, 1, 200)[0], mapping[200]
    os.fsync(fd), os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return seen, os.pread(fd, 1, 200)[0], os.pread(fd, 2, 99), os.fstat(fd).st_size


@case
def bytes_behind_the_end_when_it_is_cut_off_first():
    return tail(lambda fd: (os.ftruncate(fd, 50), os.ftruncate(fd, 8192)))


@case
def bytes_behind_the_end_after_they_were_written_out():
    return tail(lambda fd: (os.fsync(fd), os.ftruncate(fd, 8192)))


@case
def bytes_behind_the_end_and_truncation_that_grows():
    return tail(lambda fd: os.ftruncate(fd, 8192)), tail(lambda fd: os.ftruncate(fd, 300))


@case
def bytes_behind_the_end_and_a_write_behind_them():
    return tail(lambda fd: os.pwrite(fd, b"b", 8192)), tail(lambda fd: os.pwrite(fd, b"b", 300))


@case
def bytes_behind_the_end_and_an_appended_write():
    return tail(lambda fd: os.pwrite(fd, b"b" * 50, 100) and os.pwrite(fd, b"b" * 100, 250))


@case
def bytes_behind_the_end_and_allocation():
    return tail(lambda fd: os.posix_fallocate(fd, 0, 8192)), tail(lambda fd: libc("fallocate", fd, 16, 4096, 4096))


@case
def bytes_behind_the_end_and_a_copy_there():
    def copy(fd):
        source = os.open("s", os.O_RDWR | os.O_CREAT)
        os.write(source, b"copied")
        os.copy_file_range(source, fd, 6, 0, 5000)

    return tail(copy)


@case
def bytes_behind_the_end_are_not_written_out():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"a" * 100)
    mapping = raw_mapping(fd, PAGE)
    mapping[200] = 7
    libc("msync", ctypes.byref(mapping), PAGE, 4)
    return os.fstat(fd).st_size, len(read("f"))


@case
def a_file_of_the_image_is_mapped_and_changed():
    [name] = image_file(["/usr/bin/env"])
    content = read(name)
    before, _ = shared(name, len(content), os.O_RDONLY)
    mapping, fd = shared(name, len(content))
    mapping[PAGE] ^= 0xFF
    return (
        before[PAGE] == content[PAGE] ^ 0xFF,
        read(name) == content[:PAGE] + bytes([content[PAGE] ^ 0xFF]) + content[PAGE + 1 :],
        child(lambda: before[0] == content[0]),
    )


@case
def another_process_cuts_a_mapped_file():
    write("f", b"x" * PAGE * 3)
    mapping, fd = shared("f", PAGE * 3)
    touched = mapping[PAGE * 2]
    child(lambda: os.truncate("f", PAGE + 10))
    answers = [touched, mapping[PAGE + 9], mapping[PAGE + 10], child(lambda: mapping[PAGE * 2])]
    child(lambda: os.truncate("f", PAGE * 3))
    return answers, mapping[PAGE + 9], mapping[PAGE + 10], mapping[PAGE * 2]


@case
def pages_are_advised_and_locked():
    write("f", b"x" * PAGE * 4)
    mapping, fd = shared("f", PAGE * 4)
    answers = [tries(mapping.madvise, advice) for advice in (mmap.MADV_SEQUENTIAL, 20, 21, 8, 22, 23, 12)]
    answers += [mapping[5], tries(libc, "mlock", ctypes.addressof(ctypes.c_char.from_buffer(mapping)), PAGE)]
    return (
        answers,
        tries(mmap.mmap, fd, PAGE, 3 | 0x80000, mmap.PROT_READ),
        len(mmap.mmap(fd, PAGE, mmap.MAP_SHARED | mmap.MAP_POPULATE)),
        tries(mmap.mmap, fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC) != "EPERM",
    )


@case
def a_mapping_outlives_its_descriptor():
    write("f", b"x" * PAGE)
    mapping, fd = shared("f")
    os.close(fd)
    mapping[7] = 55
    os.unlink("f")
    mapping[8] = 56
    return mapping[7:9], tries(mapping.flush), child(lambda: mapping[7:9])


@case
def punching_under_a_mapping():
    write("f", b"x" * PAGE * 3)
    mapping, fd = shared("f", PAGE * 3)
    mapping[PAGE] = 9
    libc("fallocate", fd, 3, PAGE, PAGE), libc("fallocate", fd, 17, PAGE * 2 + 10, 20)
    return mapping[PAGE - 1], mapping[PAGE], mapping[PAGE * 2 + 9], mapping[PAGE * 2 + 10], mapping[PAGE * 2 + 30]


@case
def reading_into_a_mapping_of_the_same_file():
    write("f", bytes(range(256)) * 64)
    mapping, fd = shared("f", 16384)
    os.preadv(fd, [memoryview(mapping)[8192:12288]], 1)
    os.pwritev(fd, [memoryview(mapping)[0:5000]], 3)
    return mapping[8192], mapping[3:6], os.pread(fd, 3, 4100)
