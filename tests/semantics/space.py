"""Sparse files, fallocate, the largest files and limits."""

import mmap
import os
import resource
import signal

from kit import case, child, tries
from data import COLLAPSE, INSERT, KEEP_SIZE, PUNCH_HOLE, TB, UNSHARE, ZERO_RANGE, fallocate, holds, opened


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
    answers = [
        tries(os.lseek, fd, place, how) for how in (os.SEEK_DATA, os.SEEK_HOLE) for place in (0, 4096, 1 << 20)
    ]
    end = (1 << 20) + 4096
    return answers, [
        tries(os.lseek, fd, place, how) for how in (os.SEEK_DATA, os.SEEK_HOLE) for place in (end, end + 1, -1)
    ]


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
        answers.append(
            (
                how,
                fallocate(fd, how, 5000, 2000),
                holds(fd),
                fallocate(fd, how, 9000, 3000),
                holds(fd),
                fallocate(fd, how, 20_000, 100),
                holds(fd),
            )
        )
        os.pwrite(fd, b"y", 30_000)
        answers.append(holds(fd))
    return answers


@case
def allocating_in_ways_that_are_refused():
    fd = opened("f")
    os.write(fd, b"x" * 10_000)
    answers = [
        fallocate(fd, how, 0, 4096)
        for how in (PUNCH_HOLE, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, UNSHARE, 128, 4, COLLAPSE | KEEP_SIZE)
    ]
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
    answers = [
        status.st_size,
        status.st_blocks <= 64,
        os.pread(fd, 8, 4 * TB - 1),
        os.pread(fd, 10, 8 * TB - 4),
        os.lseek(fd, -4, os.SEEK_END),
        os.read(fd, 9),
    ]
    mapping = mmap.mmap(fd, 4096, offset=4 * TB)
    mapping[4095] = 90
    mapping.flush()
    answers += [
        os.pread(fd, 2, 4 * TB + 4095),
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 4096, 8 * TB),
        os.pread(fd, 6, 4 * TB),
        os.fstat(fd).st_size,
    ]
    os.ftruncate(fd, 1)
    return answers, os.fstat(fd).st_size


@case
def the_largest_offsets():
    fd = opened("f")
    most = (1 << 63) - 1
    return [
        tries(os.ftruncate, fd, most),
        tries(os.pwrite, fd, b"xy", most - 1),
        tries(os.pwrite, fd, b"x", most),
        tries(os.pread, fd, 10, most - 5),
        os.fstat(fd).st_size,
    ]


@case
def offsets_between_ext4s_largest_and_ours():
    fd = opened("f")
    return (
        tries(os.ftruncate, fd, 1 << 60),
        tries(os.pwrite, fd, b"x", 1 << 60),
        tries(os.lseek, fd, (1 << 63) - 1, os.SEEK_SET),
        os.fstat(fd).st_size,
    )


@case
def a_limit_on_the_size_of_files():
    def run():
        fd = opened("f")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        answers = [
            os.pwrite(fd, b"x" * 9000, 0),
            os.pwrite(fd, b"y" * 2000, 9000),
            tries(os.pwrite, fd, b"z", 10_000),
            tries(os.ftruncate, fd, 10_001),
            tries(os.ftruncate, fd, 10_000),
            fallocate(fd, 0, 0, 20_000),
            tries(os.truncate, "f", 20_000),
        ]
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        return answers, os.fstat(fd).st_size

    def killed():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.pwrite(opened("g"), b"x", 1000)

    return child(run), child(killed)
