"""Names and directories: rename, links, listings, limits of names and paths, removed directories."""

import ctypes
import os
import stat

import kit
from kit import (
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    case,
    child,
    give_name,
    image_file,
    libc,
    mode,
    read,
    system,
    tries,
    write,
)

MANY = 20_000  # names of the largest directory
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def renameat2(old, new, flags):
    return tries(system, "renameat2", AT_FDCWD, old, AT_FDCWD, new, flags) or "ok"


def tree(path="."):
    """All names below, with what each file holds."""
    told = []
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            told.append(f"{entry.name}/{tree(entry.path)}")
        elif entry.is_file(follow_symlinks=False):
            told.append(f"{entry.name}={read(entry.path).decode()}")
        else:
            told.append(f"{mode(entry.path)[0]}{entry.name}")
    return "{" + " ".join(told) + "}"


def same(a, b):
    return os.path.samestat(os.lstat(a), os.lstat(b))


# --- rename ---


@case
def rename_exchanges():
    write("a", "A"), write("b", "B"), os.makedirs("d/e"), write("d/x", "X"), os.symlink("a", "s")
    answers = [renameat2("a", "b", EXCHANGE), renameat2("a", "d", EXCHANGE), renameat2("s", "d", EXCHANGE), tree()]
    answers += [
        renameat2("a", "absent", EXCHANGE),
        renameat2("absent", "a", EXCHANGE),
        renameat2("a", "a/e", EXCHANGE),
    ]
    return answers + [renameat2("a/x", "b", EXCHANGE), renameat2("b", "b", EXCHANGE), tree(), os.stat(".").st_nlink]


@case
def rename_does_not_replace():
    write("a", "A"), write("b", "B"), os.mkdir("d"), os.symlink("nowhere", "s"), os.link("a", "l")
    answers = [renameat2("a", to, NOREPLACE) for to in ["b", "d", "s", "l", "a", "d/a"]]
    return answers, renameat2("d", "d/x", NOREPLACE), tree()


@case
def rename_leaves_a_whiteout():
    write("a", "A"), write("b", "B"), os.mkdir("d")
    answers = [
        renameat2("a", "b", WHITEOUT),
        renameat2("d", "e", WHITEOUT),
        renameat2("b", "c", WHITEOUT | NOREPLACE),
    ]
    answers += [renameat2("c", "e", WHITEOUT | NOREPLACE), renameat2("c", "e", WHITEOUT | EXCHANGE)]
    status = os.lstat("a")
    return answers, mode("a"), status.st_rdev, tree(), renameat2("absent", "x", WHITEOUT)


@case
def rename_flags_that_do_not_go_together():
    write("a")
    return [renameat2("a", "b", flags) for flags in (NOREPLACE | EXCHANGE, 8, 16, 1 << 31)]


@case
def rename_over_what_is_there():
    write("f", "F"), os.mkdir("empty"), os.makedirs("full/x"), os.mkdir("d"), os.symlink("f", "s")
    pairs = [
        ("f", "empty"),
        ("empty", "f"),
        ("empty", "full"),
        ("full", "full/x/y"),
        ("full/x", "full"),
        ("f", "f/x"),
        ("f", "absent/x"),
        ("absent", "f"),
        ("d", "empty"),
        ("s", "f"),
        ("empty", "s"),
        ("f", "f"),
        (".", "x"),
        ("..", "x"),
        ("full/.", "x"),
        ("full", "."),
        ("full", ".."),
        ("f", "x/"),
        ("full", "n/"),
        ("f/", "x"),
        ("n/", "m"),
        ("f", ""),
        ("", "f"),
    ]
    return [(*pair, tries(os.rename, *pair)) for pair in pairs], tree()


@case
def rename_of_hard_links_to_each_other():
    write("a", "A"), os.link("a", "b")
    return tries(os.rename, "a", "b"), tree(), os.stat("a").st_nlink


@case
def rename_over_an_open_file():
    write("old", "old content"), write("new", "new")
    reading, writing = os.open("old", os.O_RDONLY), os.open("old", os.O_WRONLY)
    os.rename("new", "old")
    os.pwrite(writing, b"OLD", 0)
    return os.pread(reading, 100, 0), os.fstat(reading).st_nlink, read("old"), os.fstat(writing).st_size


@case
def rename_of_an_open_file_and_the_working_directory():
    os.makedirs("d/e")
    fd = os.open(write("d/f", "F"), os.O_RDWR)
    os.chdir("d/e")
    os.rename("../../d", "../../moved")
    os.pwrite(fd, b"G", 1)
    here = os.getcwd().removeprefix(kit.HERE)
    return here, os.readlink(f"/proc/self/fd/{fd}").removeprefix(kit.HERE), read("../f")


@case
def rename_between_directories_keeps_counts():
    os.makedirs("a/x/y"), os.mkdir("b")
    counts = lambda: [os.stat(path).st_nlink for path in (".", "a", "b")]
    before = counts()
    os.rename("a/x", "b/x")
    up = os.stat("b/x/..").st_ino == os.stat("b").st_ino
    between = counts()
    os.mkdir("a/x")
    exchanged = renameat2("a/x", "b/x", EXCHANGE)
    return before, between, up, exchanged, counts(), tree()


# --- links ---


@case
def hard_links_are_one_file():
    write("a", "A"), os.mkdir("d")
    os.link("a", "d/b")
    numbers = os.stat("a").st_ino == os.stat("d/b").st_ino
    listed = {entry.name: entry.inode() for entry in os.scandir(".")}["a"] == os.stat("d/b").st_ino
    write("d/b", "changed"), os.chmod("a", 0o600)
    seen = read("a"), mode("d/b"), os.stat("a").st_nlink
    os.unlink("a")
    return numbers, listed, seen, os.stat("d/b").st_nlink, read("d/b")


@case
def hard_links_of_the_image():
    one, two = image_file(["/usr/bin/perl", "/usr/bin/perl5.36.0"])
    before = os.stat(one)
    answers = [same(one, two), before.st_nlink, mode(one)]
    os.link(one, "three")
    answers += [same("three", two), os.stat(two).st_nlink]
    content = read(two)
    with open(one, "r+b") as file:
        file.seek(5000)
        file.write(b"changed")
    expected = content[:5000] + b"changed" + content[5007:]
    answers += [read(two) == expected, read("three") == expected, os.stat(two).st_ino == before.st_ino]
    os.chmod("three", 0o640)
    answers += [mode(one), mode(two)]
    os.unlink(one)
    answers += [os.stat(two).st_nlink, same(two, "three")]
    os.rename("three", two)  # the same file: nothing happens
    return answers + [sorted(os.listdir(".")), os.stat(two).st_ino == before.st_ino]


@case
def an_open_file_of_the_image_sees_what_is_written():
    [name] = image_file(["/usr/bin/xargs"])
    reading = os.open(name, os.O_RDONLY)
    head = os.pread(reading, 4, 0)
    with open(name, "r+b") as file:
        file.write(b"abc")
    answers = [head, os.pread(reading, 4, 0), os.fstat(reading).st_ino == os.stat(name).st_ino]
    os.unlink(name)
    os.pwrite(os.open(f"/proc/self/fd/{reading}", os.O_WRONLY), b"still", 10)
    return answers + [os.pread(reading, 5, 10), os.fstat(reading).st_nlink]


@case
def links_that_are_refused():
    os.mkdir("d"), write("f"), os.symlink("f", "s"), os.symlink("nowhere", "dangling")
    pairs = [
        ("d", "x"),
        ("f", "d"),
        ("f", "f"),
        ("absent", "x"),
        ("f", "absent/x"),
        ("f", "f/x"),
        ("f", "x/"),
        ("f", "d/x"),
    ]
    answers = [(*pair, tries(os.link, *pair)) for pair in pairs]
    answers.append(tries(os.link, "s", "t", follow_symlinks=False) + mode("t"))
    answers.append((tries(libc, "linkat", AT_FDCWD, "s", AT_FDCWD, "u", AT_SYMLINK_FOLLOW), mode("u")))
    answers.append(tries(libc, "linkat", AT_FDCWD, "dangling", AT_FDCWD, "w", AT_SYMLINK_FOLLOW))
    return (
        answers,
        tries(os.link, "dangling", "v", follow_symlinks=False),
        os.stat("f").st_nlink,
        os.lstat("s").st_nlink,
    )


@case
def a_file_without_names_cannot_be_linked_again():
    fd = os.open(write("f"), os.O_RDWR)
    os.unlink("f")
    return tries(give_name, fd, "again"), tries(libc, "linkat", fd, "", AT_FDCWD, "x", 0x1000)


@case
def a_file_with_names_can_be_linked_by_its_descriptor():
    fd = os.open(write("f", "F"), os.O_RDONLY)
    path = os.open("f", os.O_PATH)
    return (
        [tries(give_name, number, f"l{number == fd}") for number in (fd, path)],
        tries(libc, "linkat", AT_FDCWD, f"/proc/self/fd/{fd}", AT_FDCWD, "m", AT_SYMLINK_FOLLOW),
        tree(),
    )


@case
def symlinks_hold_what_was_said():
    os.symlink("x" * 4095, "longest")
    answers = [len(os.readlink("longest")), os.lstat("longest").st_size, mode("longest")]
    answers += [
        tries(os.symlink, "x" * 4096, "too-long"),
        tries(os.symlink, "", "empty"),
        tries(os.symlink, "a", "longest"),
    ]
    os.symlink(b"\xff\xfe\n", b"bytes")
    answers += [os.readlink(b"bytes"), tries(os.readlink, "."), tries(os.open, "longest", os.O_RDONLY)]
    path = os.open("bytes", os.O_PATH | os.O_NOFOLLOW)
    return answers + [os.readlink("", dir_fd=path), tries(os.open, "bytes", os.O_RDONLY | os.O_NOFOLLOW)]


@case
def symlinks_that_go_in_circles():
    os.symlink("b", "a"), os.symlink("a", "b"), os.symlink("loop/x", "loop"), write("end", "E")
    previous = "end"
    for number in range(1, 42):
        os.symlink(previous, f"l{number}")
        previous = f"l{number}"
    return (
        tries(os.stat, "a"),
        tries(os.open, "loop", os.O_RDONLY),
        tries(os.mkdir, "a"),
        tries(read, "l40"),
        tries(read, "l41"),
    )


@case
def what_may_stand_behind_a_symlink():
    os.symlink("target", "s"), os.mkdir("d"), os.symlink("d", "sd")
    answers = [
        tries(os.mkdir, "s"),
        tries(lambda: os.close(os.open("s", os.O_CREAT | os.O_EXCL))),
        tries(os.mknod, "s"),
    ]
    answers += [tries(lambda: os.close(os.open("s", os.O_CREAT))), os.path.exists("target")]
    answers += [
        tries(os.rmdir, "sd"),
        tries(os.unlink, "sd/"),
        tries(os.rmdir, "sd/"),
        tries(os.open, "sd", os.O_DIRECTORY | os.O_NOFOLLOW),
    ]
    return answers, mode("sd")


# --- limits and errors of names ---


@case
def the_longest_names():
    longest, more = "n" * 255, "n" * 256
    write(longest, "N")
    answers = [read(longest), os.listdir(".") == [longest]]
    for call in (
        os.mkdir,
        os.unlink,
        os.rmdir,
        os.stat,
        os.readlink,
        lambda path: os.symlink("x", path),
        lambda path: os.link(longest, path),
        lambda path: os.rename(longest, path),
        lambda path: os.mknod(path),
        lambda path: os.open(path, os.O_CREAT),
        os.mkfifo,
    ):
        answers.append(tries(call, more))
    os.rename(longest, "m" * 255), os.mkdir("d" * 255), os.mkfifo("p" * 255)
    return answers, sorted(len(name) for name in os.listdir("."))


@case
def names_are_bytes():
    names = [
        b"\xff\xfe",
        b"new\nline",
        "ü".encode(),
        "u\u0308".encode(),
        b"A",
        b"a",
        b" ",
        b"-rf",
        b"\\",
        b"*",
        b"...",
        b"\xed\xa0\x80",
        "n".encode() + "é".encode() * 127,
    ]
    for name in names:
        write(name, name)
    return (
        sorted(os.listdir(b".")) == sorted(names),
        all(read(name) == name for name in names),
        tries(os.mkdir, b"\xc3" * 256),
    )


@case
def the_longest_paths():
    path = kit.HERE
    while len(path) + 252 <= 4095 - 1:
        path += "/" + "d" * 250
        os.mkdir(path)
    fit = path + "/" + "f" * (4095 - len(path) - 1)
    answers = [
        len(fit),
        tries(write, fit, "F") == fit,
        tries(read, fit),
        tries(os.stat, fit + "f"),
        tries(os.symlink, fit, "s"),
    ]
    os.chdir(path)
    answers += [tries(os.mkdir, "deeper" * 20), os.path.isdir("deeper" * 20)]
    os.chdir("deeper" * 20)
    write("x", "deep")
    answers += [read("x")]
    os.unlink("x")
    os.chdir("..")
    os.rmdir("deeper" * 20)
    return answers


@case
def errors_of_paths():
    write("f"), os.mkdir("d")
    answers = []
    for path in ["f/", "f/x", "f/.", "f/..", "d/absent/x", "", "d/", "d//.//", "absent/", "absent/."]:
        answers.append(
            (
                path,
                *[
                    tries(call, path) if not isinstance(tries(call, path), os.stat_result) else "found"
                    for call in (os.stat, os.lstat)
                ],
            )
        )
    answers += [
        tries(os.open, "d", flags)
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT, os.O_TRUNC | os.O_WRONLY)
    ]
    answers += [
        tries(os.open, "f", os.O_DIRECTORY),
        tries(os.open, "f/", os.O_RDONLY),
        tries(os.open, "x/", os.O_CREAT),
        tries(os.open, "f", os.O_CREAT | os.O_EXCL),
        tries(os.open, "d", os.O_CREAT | os.O_EXCL),
    ]
    return answers


@case
def removing():
    write("f"), os.makedirs("d/e"), os.symlink("d", "s")
    answers = [
        (name, tries(call, path))
        for name, call, path in [
            ("unlink", os.unlink, "d"),
            ("rmdir", os.rmdir, "f"),
            ("rmdir", os.rmdir, "d"),
            ("rmdir", os.rmdir, "."),
            ("rmdir", os.rmdir, "d/e/."),
            ("rmdir", os.rmdir, "d/e/.."),
            ("unlink", os.unlink, "f/"),
            ("unlink", os.unlink, "d/"),
            ("unlink", os.unlink, "."),
            ("rmdir", os.rmdir, "absent"),
            ("unlink", os.unlink, "absent"),
            ("rmdir", os.rmdir, "s"),
            ("unlink", os.unlink, "s"),
            ("rmdir", os.rmdir, "d/e/"),
            ("rmdir", os.rmdir, "d"),
            ("unlink", os.unlink, "f/x"),
        ]
    ]
    return answers, tree()


@case
def making_directories():
    write("f")
    answers = [
        tries(os.mkdir, path) for path in ["d", "d", "d/", "d/.", "d/e/", "absent/x", "f", "f/x", ".", "..", "/", ""]
    ]
    return answers, tree(), os.stat("d").st_nlink


@case
def other_filesystems():
    write("f", "F"), os.mkdir("d"), write("/dev/shm/semantics", "S")
    answers = [
        tries(os.rename, "f", "/dev/shm/x"),
        tries(os.rename, "/dev/shm/semantics", "x"),
        tries(os.rename, "d", "/dev/shm/x"),
        tries(os.link, "f", "/dev/shm/x"),
        tries(os.link, "/dev/shm/semantics", "x"),
        renameat2("f", "/dev/shm/semantics", EXCHANGE),
    ]
    os.unlink("/dev/shm/semantics")
    return answers, tree()


# --- listings ---


@case
def counts_of_links():
    counts = []
    note = lambda *paths: counts.append([os.stat(path).st_nlink for path in paths])
    note(".")
    os.makedirs("a/b"), os.mkdir("c"), write("f"), os.symlink("a", "s")
    note(".", "a", "a/b", "f", "s")
    os.rmdir("a/b"), os.link("f", "g")
    note("a", "f")
    fd, directory = os.open("f", os.O_RDONLY), os.open("c", os.O_RDONLY)
    os.unlink("f"), os.unlink("g"), os.rmdir("c")
    note(".", fd, directory)
    return counts


@case
def what_a_listing_says():
    write("f"), os.mkdir("d"), os.symlink("f", "s"), os.mkfifo("p"), os.link("f", "l"), os.mknod(
        "sock", stat.S_IFSOCK | 0o600
    )
    kinds = {4: "d", 8: "f", 10: "l", 1: "p", 12: "s"}
    entries = listing(os.open(".", os.O_RDONLY), 1 << 15)
    right = all(
        number == (os.lstat(name).st_ino if name not in (b"..",) else os.stat("..").st_ino)
        for name, number, _, _ in entries
    )
    return right, sorted((name, kinds[kind]) for name, _, kind, _ in entries), len({entry[3] for entry in entries})


def listing(fd, size, most=1 << 60):
    """Entries from where the descriptor stands: name, inode number, kind, cookie. Stops after one call that gives `most`."""
    entries, buffer = [], ctypes.create_string_buffer(size)
    while len(entries) < most:
        length = system("getdents64", fd, buffer, size)
        if length == 0:
            break
        at = 0
        while at < length:
            number, cookie = kit.unpack("Qq", buffer[at : at + 16])
            size_of, kind = kit.unpack("HB", buffer[at + 16 : at + 19])
            name = buffer[at + 19 : at + size_of].split(b"\0")[0]
            entries.append((name, number, kind, cookie))
            at += size_of
    return entries


@case
def a_large_directory_while_names_come_and_go():
    for number in range(MANY):
        os.close(os.open(f"name{number}", os.O_CREAT | os.O_WRONLY))
    fd = os.open(".", os.O_RDONLY)
    first = listing(fd, 4096, MANY // 2)
    seen = {entry[0] for entry in first}
    everything = {f"name{number}".encode() for number in range(MANY)} | {b".", b".."}
    unseen = sorted(everything - seen)
    gone_seen, gone_unseen = sorted(seen - {b".", b".."})[::3], unseen[::3]
    for name in gone_seen + gone_unseen:
        os.unlink(name)
    for number in range(MANY // 10):
        os.close(os.open(f"new{number}", os.O_CREAT | os.O_WRONLY))
    rest = [entry[0] for entry in listing(fd, 4096)]
    old = [name for name in rest if not name.startswith(b"new")]
    answers = [len(rest) == len(set(rest)), set(old) == set(unseen) - set(gone_unseen)]
    # Back to a cookie: the same names follow, without those that went.
    place = len(first) // 2
    os.lseek(fd, first[place][3], os.SEEK_SET)
    again = [name for name, *_ in listing(fd, 4096) if not name.startswith(b"new")]
    expected = [entry[0] for entry in first[place + 1 :] if entry[0] not in set(gone_seen)] + old
    answers += [again == expected]
    os.lseek(fd, 0, os.SEEK_SET)
    whole = [name for name, *_ in listing(fd, 1 << 15)]
    answers += [len(whole) == len(set(whole)), set(whole) == set(os.listdir(b".")) | {b".", b".."}]
    return answers


@case
def a_listing_sees_what_was_made_after_a_rewind():
    fd = os.open(".", os.O_RDONLY)
    names = lambda: sorted(entry[0] for entry in listing(fd, 4096))
    first = names()
    write("f")
    os.lseek(fd, 0, os.SEEK_SET)
    after = names()
    os.unlink("f")
    os.lseek(fd, 0, os.SEEK_SET)
    last = names()
    os.lseek(fd, 0, os.SEEK_SET)
    return (
        first,
        after,
        last,
        tries(os.lseek, fd, -1, os.SEEK_SET),
        tries(system, "getdents64", fd, ctypes.create_string_buffer(8), 8),
    )


@case
def a_working_directory_that_is_removed():
    os.mkdir("d")
    os.chdir("d")
    fd = os.open(".", os.O_RDONLY)
    os.rmdir("../d")
    answers = [
        tries(os.getcwd),
        tries(os.listdir, "."),
        tries(listing, fd, 4096),
        tries(write, "x"),
        tries(os.mkdir, "x"),
    ]
    answers += [
        tries(os.stat, "x"),
        tries(os.open, ".", os.O_TMPFILE | os.O_RDWR),
        tries(os.chdir, ".."),
        os.fstat(fd).st_nlink,
    ]
    return answers, os.path.basename(os.getcwd()), tries(os.fsync, fd), tries(os.rmdir, "d")


@case
def a_removed_directory_and_what_is_moved_over_it():
    os.mkdir("old"), os.makedirs("new/x")
    fd = os.open("old", os.O_RDONLY)
    os.rename("new", "old")
    return tries(listing, fd, 4096), os.fstat(fd).st_nlink, tries(os.mkdir, "y", dir_fd=fd), os.listdir("old")


@case
def inode_numbers_are_stable():
    os.makedirs("d/e"), write("d/f"), os.symlink("f", "d/s"), os.mkfifo("d/p")
    number = lambda path: os.lstat(path).st_ino
    before = [number(f"d/{name}") for name in "efsp"]
    os.rename("d", "moved"), os.rename("moved/f", "moved/g"), os.chmod("moved/g", 0), write("moved/g", "x" * 100_000)
    after = [number(f"moved/{name}") for name in "egsp"]
    os.unlink("moved/g"), write("moved/g")
    return before == after, len(set(before)), number("moved/g") not in before[:1] + before[2:]


@case
def many_names_of_one_file():
    write("f", "F")
    for number in range(2000):
        os.link("f", f"l{number}")
    counts = [os.stat("f").st_nlink, len({entry.inode() for entry in os.scandir(".")})]
    for number in range(0, 2000, 2):
        os.unlink(f"l{number}")
    return counts, os.stat("l1").st_nlink


@case
def another_process_sees_each_change_at_once():
    write("f", "1"), os.mkdir("d")
    answers = [child(lambda: tries(os.stat, "new"))]
    child(lambda: write("new", "N"))
    answers += [
        read("new"),
        child(lambda: os.rename("new", "d/n")),
        tries(os.stat, "new"),
        read("d/n"),
        os.listdir("d"),
    ]
    child(lambda: write("f", "longer"))
    answers += [os.path.getsize("f"), read("f")]
    child(lambda: os.unlink("f"))
    return answers, tries(os.stat, "f")
