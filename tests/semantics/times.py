"""Times of files: which operations move which, how exact they are, and who may set them."""

import os
import struct
import time

import kit
from kit import ALICE, BOB, case, child, libc, moved, read, tries, write
from xattrs import ACCESS, MINIMAL

NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
BILLION = 10**9


def utimensat(path, atime, mtime, flags=0):
    """Times as (seconds, nanoseconds)."""
    times = struct.pack("qqqq", *atime, *mtime)
    return tries(libc, "utimensat", -100, path, times, flags) or "ok"


def both(path):
    status = os.lstat(path)
    return status.st_atime_ns, status.st_mtime_ns


@case
def times_to_the_nanosecond():
    write("f"), os.mkdir("d"), os.symlink("f", "s"), os.mkfifo("p")
    answers = []
    for path in "fdsp":
        for value in (1, 123_456_789, BILLION - 1, BILLION, 1_700_000_000 * BILLION + 987_654_321):
            os.utime(path, ns=(value, value + 1), follow_symlinks=False)
            answers.append(both(path) == (value, value + 1))
    return answers


@case
def times_before_1970_and_after_2038():
    write("f"), os.mkdir("d")
    answers = []
    for path in "fd":
        for value in (
            -1,
            -BILLION,
            -1_500_000_000,
            -(1 << 31) * BILLION,
            (1 << 31) * BILLION,
            (1 << 32) * BILLION + 5,
            7_000_000_000 * BILLION + 3,
            15_032_385_535 * BILLION,
        ):
            os.utime(path, ns=(value, value))
            answers.append(both(path) == (value, value))
    return answers


@case
def times_that_ext4_cannot_hold():
    write("f")
    answers = []
    for value in (-(1 << 31) - 1, 15_032_385_536, 1 << 40):
        os.utime("f", ns=(value * BILLION, value * BILLION))
        answers.append(os.stat("f").st_mtime_ns // BILLION)
    return answers


@case
def times_now_and_omitted():
    write("f")
    set_ = lambda *args: (
        utimensat("f", (5, 6), (7, 8)),
        utimensat("f", *args),
        [value if value < 100 * BILLION else "now" for value in both("f")],
    )
    answers = [
        set_((0, NOW), (0, OMIT)),
        set_((0, OMIT), (0, NOW)),
        set_((0, NOW), (0, NOW)),
        set_((0, OMIT), (0, OMIT)),
        set_((1, 2), (0, OMIT)),
        set_((0, OMIT), (3, 4)),
    ]
    answers += [
        set_((0, BILLION), (0, 0)),
        set_((0, -1), (0, 0)),
        set_((9, BILLION - 1), (0, 0)),
        utimensat("absent", (0, OMIT), (0, OMIT)),
        utimensat("f", (0, 0), (0, 0), 7),
    ]
    return answers, moved("f", utimensat, "f", (0, OMIT), (0, OMIT)), moved("f", utimensat, "f", (5, 6), (7, 8))


@case
def times_of_links_and_descriptors():
    write("f"), os.symlink("f", "s")
    os.utime("s", ns=(1, 2), follow_symlinks=False), os.utime("s", ns=(3, 4))
    path = os.open("f", os.O_PATH)
    reading = os.open("f", os.O_RDONLY)
    answers = [
        both("s")[1],
        both("f"),
        tries(os.utime, path, ns=(5, 6)),
        tries(libc, "utimensat", path, "", struct.pack("qqqq", 0, 7, 0, 8), 0x1000),
        both("f"),
    ]
    return (
        answers,
        tries(os.utime, reading, ns=(9, 10)),
        both("f"),
        tries(os.utime, f"/proc/self/fd/{path}", ns=(11, 12)),
        both("f"),
    )


@case(ids=True)
def who_may_set_times():
    write("mine", mode=0o444, owner=(ALICE, ALICE)), write("shared", mode=0o666, owner=(BOB, BOB)), write(
        "theirs", mode=0o644, owner=(BOB, BOB)
    )
    values = {
        "now": ((0, NOW), (0, NOW)),
        "none": ((0, OMIT), (0, OMIT)),
        "set": ((1, 2), (3, 4)),
        "half": ((0, NOW), (0, OMIT)),
        "other": ((0, OMIT), (0, NOW)),
    }
    return child(
        lambda: [
            (path, name, utimensat(path, *times))
            for path in ("mine", "shared", "theirs")
            for name, times in values.items()
        ],
        ALICE,
    )


@case
def what_moves_the_times_of_a_file():
    fd = os.open(write("f", b"x" * 10_000), os.O_RDWR)
    source = os.open(write("source", b"s" * 100), os.O_RDONLY)
    answers = {
        "write": moved("f", lambda: os.pwrite(fd, b"y", 5) and None),
        "append": moved("f", lambda: os.pwrite(fd, b"y", 20_000) and None),
        "nothing": moved("f", lambda: os.pwrite(fd, b"", 0) and None),
        "chmod": moved("f", os.chmod, "f", 0o600),
        "the same": moved("f", os.chmod, "f", 0o600),
        "chown": moved("f", os.chown, "f", 0, 0),
        "chown to nobody": moved("f", os.chown, "f", -1, -1),
        "link": moved("f", os.link, "f", "g"),
        "unlink": moved("f", os.unlink, "g"),
        "rename": moved(fd, os.rename, "f", "h"),
        "rename back": moved(fd, os.rename, "h", "f"),
        "setxattr": moved("f", os.setxattr, "f", "user.x", b"1"),
        "acl": moved("f", os.setxattr, "f", ACCESS, MINIMAL),
        "removexattr": moved("f", os.removexattr, "f", "user.x"),
        "failed removexattr": moved("f", os.removexattr, "f", "user.x"),
        "punch": moved("f", lambda: libc("fallocate", fd, 3, 0, 4096) and None),
        "allocate": moved("f", lambda: libc("fallocate", fd, 0, 0, 40_000) and None),
        "keep size": moved("f", lambda: libc("fallocate", fd, 1, 40_000, 40_000) and None),
        "allocate again": moved("f", lambda: libc("fallocate", fd, 0, 0, 4096) and None),
        "zero": moved("f", lambda: libc("fallocate", fd, 16, 0, 4096) and None),
        "copy": moved("f", lambda: os.copy_file_range(source, fd, 10, 0, 0) and None),
        "utime": moved("f", os.utime, "f"),
        "fsync": moved("f", os.fsync, fd),
        "flags": moved("f", os.open, "f", os.O_RDONLY | os.O_NOATIME),
        "stat": moved("f", lambda: os.stat("f") and None),
    }
    return answers


@case
def truncation_that_changes_the_size():
    fd = os.open(write("f", b"x" * 10_000), os.O_RDWR)
    return [
        moved("f", os.ftruncate, fd, 5000),
        moved("f", os.ftruncate, fd, 9000),
        moved("f", os.truncate, "f", 100),
        moved("f", os.truncate, "f", 200),
        moved("f", lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))),
    ]


@case
def truncation_by_descriptor_to_the_same_size():
    fd = os.open(write("f", b"x" * 10_000), os.O_RDWR)
    answers = [moved("f", os.ftruncate, fd, 10_000)]
    os.ftruncate(fd, 0)
    return answers + [
        moved("f", os.ftruncate, fd, 0),
        moved("f", lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))),
    ]


@case
def truncation_by_name_to_the_same_size():
    write("f", b"x" * 10_000), write("empty")
    return moved("f", os.truncate, "f", 10_000), moved("empty", os.truncate, "empty", 0)


@case
def times_of_mapped_writes():
    import mmap

    fd = os.open(write("f", b"x" * 4096), os.O_RDWR)
    mapping = mmap.mmap(fd, 4096)
    answers = [moved("f", lambda: mapping.__setitem__(0, 1))]
    mapping.flush()
    return answers + [
        moved("f", lambda: (mapping.__setitem__(0, 2), mapping.flush()) and None),
        moved("f", mapping.flush),
    ]


@case
def what_moves_the_times_of_a_directory():
    os.mkdir("d"), os.mkdir("other"), write("f"), write("f2"), os.mkdir("sub")
    acts = [
        ("make", lambda: os.close(os.open("d/a", os.O_CREAT))),
        ("open it", lambda: os.close(os.open("d/a", os.O_CREAT))),
        ("mkdir", lambda: os.mkdir("d/s")),
        ("rmdir", lambda: os.rmdir("d/s")),
        ("symlink", lambda: os.symlink("x", "d/l")),
        ("unlink", lambda: os.unlink("d/l")),
        ("link", lambda: os.link("f", "d/f")),
        ("rename within", lambda: os.rename("d/f", "d/g")),
        ("rename out", lambda: os.rename("d/g", "g")),
        ("rename in", lambda: os.rename("g", "d/g")),
        ("over", lambda: os.rename("f2", "d/g")),
        ("write in it", lambda: write("d/a", b"more") and None),
        ("chmod in it", lambda: os.chmod("d/a", 0)),
        ("temporary", lambda: os.close(os.open("d", os.O_TMPFILE | os.O_WRONLY))),
        ("fifo", lambda: os.mkfifo("d/p")),
        ("chmod", lambda: os.chmod("d", 0o700)),
        ("move it", lambda: os.rename("d", "d2") or os.rename("d2", "d")),
        ("failed make", lambda: os.mkdir("d/a")),
        ("exchange", lambda: kit.system("renameat2", -100, "d/a", -100, "other", 2) and None),
        ("setxattr", lambda: os.setxattr("d", "user.x", b"1")),
    ]
    return [(name, moved("d", act)) for name, act in acts]


@case
def what_moves_the_times_of_a_directory_that_is_moved():
    os.makedirs("a/d/x"), os.mkdir("b")
    return (
        moved("a/d", lambda: os.rename("a/d", "b/d") or os.rename("b/d", "a/d")),
        moved("a", os.rename, "a/d", "b/d"),
        moved("b", os.rename, "b/d", "a/d"),
    )


@case
def times_of_new_files_are_one():
    write("f"), os.mkdir("d"), os.symlink("f", "s")
    status = [os.lstat(path) for path in "fds"]
    return [one.st_mtime_ns == one.st_ctime_ns and abs(one.st_mtime - time.time()) < 60 for one in status]


@case
def reading_moves_the_access_time():
    write("f", b"x"), os.mkdir("d"), os.symlink("f", "s")
    return (
        moved("f", lambda: read("f") and None),
        moved("d", lambda: os.listdir("d") and None),
        moved("s", lambda: os.readlink("s") and None, follow=False),
    )


@case
def times_of_a_pipe():
    os.mkfifo("p")
    fd = os.open("p", os.O_RDWR)
    return moved("p", lambda: os.write(fd, b"x") and None), moved("p", lambda: os.read(fd, 1) and None)


@case
def times_come_in_their_order():
    # Not one order of both: a server stamps names by the coarse clock, the kernel files by one that may be a tick ahead of it.
    names, files, fd = [], [], os.open("f", os.O_CREAT | os.O_RDWR)
    for number in range(100):
        os.mkdir(f"d{number}"), os.write(fd, b"x")
        names.append(os.stat(f"d{number}").st_mtime_ns)
        files.append(os.fstat(fd).st_mtime_ns)
        os.symlink("x", f"s{number}")
        names += [os.lstat(f"s{number}").st_ctime_ns, os.stat(".").st_mtime_ns]
        os.chmod("f", 0o600 + number % 8)
        files.append(os.fstat(fd).st_ctime_ns)
        time.sleep(0.0001)
    return names == sorted(names), files == sorted(files), abs(files[-1] - time.time_ns()) < 60 * BILLION


@case
def writing_after_setting_a_time():
    fd = os.open(write("f"), os.O_RDWR)
    os.utime("f", ns=(1, 2))
    answers = [both("f")]
    os.write(fd, b"x")
    answers += [both("f")[1] > BILLION]
    os.utime("f", ns=(3, 4))
    os.fsync(fd)
    answers += [both("f")]
    os.close(fd)
    return answers, both("f")


@case
def times_of_hard_links_are_one():
    write("a"), os.link("a", "b")
    os.utime("a", ns=(1, 2))
    status = os.stat("b")
    return status.st_atime_ns, status.st_mtime_ns, moved("a", os.chmod, "b", 0o600), moved("a", os.unlink, "b")
