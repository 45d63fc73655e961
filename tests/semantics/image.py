"""Directories and files of the image: in the container's own tree what is asked of here lies below the writable layer."""

import os
import shutil

import kit
from kit import (
    ALICE,
    AT_FDCWD,
    CLUB,
    case,
    child,
    image_file,
    image_tree,
    look,
    mode,
    moved,
    read,
    system,
    tries,
    write,
)
from names import EXCHANGE, WHITEOUT, listing

# Each is taken once.
LICENSES, APT, SKELETON, PYTHON = "/usr/share/common-licenses", "/etc/apt", "/etc/skel", "/usr/lib/python3.11/"


def shape(path="."):
    """Names and kinds below, with sizes of files and targets of links."""
    told = []
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        status = os.lstat(entry.path)
        if entry.is_dir(follow_symlinks=False):
            told.append(f"{entry.name}/{shape(entry.path)}")
        elif entry.is_symlink():
            told.append(f"{entry.name}>{os.readlink(entry.path)}")
        else:
            told.append(f"{entry.name}={status.st_size}")
    return "{" + " ".join(told) + "}"


@case
def names_of_the_image_go_and_come_again():
    directory = image_tree(LICENSES)
    answers = [shape(directory)]
    os.chdir(directory)
    os.link("GPL", "../hard", follow_symlinks=False), os.rename("LGPL", "../moved")
    answers += [
        os.readlink("../hard"),
        os.lstat("../hard").st_nlink,
        os.lstat("../hard").st_ino == os.lstat("GPL").st_ino,
        os.readlink("../moved"),
        tries(os.stat, "../moved"),
    ]
    for name in ("GPL", "GPL-1", "BSD"):
        os.unlink(name)
    answers += [tries(os.stat, "BSD"), tries(os.unlink, "BSD"), shape()]
    write("BSD", "mine"), os.mkdir("GPL"), os.symlink("BSD", "GPL-1")
    answers += [read("GPL-1"), shape()]
    os.unlink("GPL-1"), os.rmdir("GPL"), os.rename("BSD", "GPL")
    return (
        answers,
        shape(),
        tries(os.rename, "GPL", "GFDL"),
        tries(os.rename, "LGPL-2", "Artistic"),
        shape(),
        read("Artistic")[:40],
    )


@case
def a_directory_of_the_image_is_removed():
    directory = image_tree(APT)
    answers = [
        tries(os.rmdir, directory),
        os.stat(directory).st_nlink,
        tries(os.rmdir, f"{directory}/keyrings"),
        os.stat(directory).st_nlink,
    ]
    os.mkdir("empty")
    answers += [tries(os.rename, "empty", directory)]
    shutil.rmtree(directory)
    answers += [
        os.listdir("."),
        tries(os.mkdir, directory),
        os.listdir(directory),
        tries(os.stat, f"{directory}/sources.list"),
        os.stat(directory).st_nlink,
    ]
    return answers


@case
def a_directory_of_the_image_is_moved():
    directory = image_tree(PYTHON + "xml")
    fd = os.open(f"{directory}/parsers", os.O_RDONLY)
    os.mkdir("to"), os.rename(directory, "to/there")
    answers = [os.listdir("."), shape("to"), sorted(os.listdir(fd)), tries(os.stat, directory)]
    os.rename("to/there/parsers", "to/there/sax/deeper")
    answers += [sorted(os.listdir(fd)), os.path.samestat(os.stat("..", dir_fd=fd), os.stat("to/there/sax"))]
    os.chmod("to/there/sax/deeper", 0o700), write("to/there/new", "n")
    answers += [mode("to/there/sax/deeper"), tries(os.rename, "to", "to/there/x"), shape()]
    return answers, [os.stat(path).st_nlink for path in ("to", "to/there", "to/there/sax")]


@case
def directories_of_the_image_are_exchanged():
    directory = image_tree(PYTHON + "email")
    write("file", "F"), os.makedirs("made/x")
    answers = [
        tries(system, "renameat2", AT_FDCWD, a, AT_FDCWD, b, EXCHANGE)
        for a, b in [
            (directory, "made"),
            ("made/charset.py", "file"),
            ("made/mime", directory),
            ("made/mime", "made/errors.py"),
        ]
    ]
    answers += [
        tries(system, "renameat2", AT_FDCWD, "made/errors.py", AT_FDCWD, "gone", WHITEOUT),
        mode("made/errors.py"),
    ]
    os.unlink("made/errors.py")
    return answers, shape()


@case
def a_listing_of_the_image_while_names_change():
    directory = image_tree("/etc/alternatives")
    everything = set(os.listdir(directory))
    fd = os.open(directory, os.O_RDONLY)
    first = listing(fd, 100, 4)
    seen = {os.fsdecode(entry[0]) for entry in first}
    rest = sorted(everything - seen)
    for name in rest[::2] + sorted(seen - {".", ".."})[:1]:
        os.unlink(f"{directory}/{name}")
    for number in range(20):
        write(f"{directory}/new{number}")
    later = [os.fsdecode(entry[0]) for entry in listing(fd, 100)]
    old = [name for name in later if not name.startswith("new")]
    os.lseek(fd, first[0][3], os.SEEK_SET)
    again = {os.fsdecode(entry[0]) for entry in listing(fd, 4096)}
    return (
        len(later) == len(set(later)),
        set(rest[1::2]) <= set(old),
        set(rest[1::2]) <= again,
        len(os.listdir(directory)) == len(everything) + 20 - len(rest[::2]) - bool(sorted(seen - {".", ".."})[:1]),
    )


@case
def attributes_of_what_the_image_brought():
    directory, [program] = image_tree(SKELETON), image_file(["/usr/bin/chfn"])
    before = [os.stat(path).st_ino for path in (directory, program, f"{directory}/.profile")]
    answers = [look(directory), look(program), os.stat(directory).st_nlink, os.stat(directory).st_size > 0]
    answers += [tries(os.setxattr, path, "user.x", b"1") for path in (directory, program)]
    answers += [os.listxattr(directory), os.getxattr(program, "user.x"), look(program)]
    os.utime(directory, ns=(-5, -6)), os.chmod(directory, 0o1777)
    answers += [os.stat(directory).st_mtime_ns, mode(directory)]
    answers += [
        moved(directory, write, f"{directory}/new"),
        moved(directory, os.unlink, f"{directory}/.bashrc"),
        moved(f"{directory}/.profile", os.chmod, f"{directory}/.profile", 0),
    ]
    return answers, before == [os.stat(path).st_ino for path in (directory, program, f"{directory}/.profile")]


@case(ids=True)
def owners_of_what_the_image_brought():
    directory = image_tree(PYTHON + "dbm")
    os.chown(directory, ALICE, CLUB), os.chown(f"{directory}/gnu.py", ALICE, -1), os.chmod(directory, 0o2775)
    content = read(f"{directory}/gnu.py")
    acts = lambda: [
        tries(write, f"{directory}/dumb.py", b"x"),
        tries(os.unlink, f"{directory}/ndbm.py"),
        tries(os.mkdir, f"{directory}/d"),
        tries(lambda: os.close(os.open(f"{directory}/gnu.py", os.O_WRONLY | os.O_APPEND))),
    ]
    return (
        child(acts, ALICE),
        [(name, look(f"{directory}/{name}")) for name in sorted(os.listdir(directory))],
        read(f"{directory}/gnu.py") == content,
    )


@case
def writing_into_the_middle_of_an_image_file():
    answers = []
    for number, (place, length) in enumerate([(0, 1), (4095, 2), (5000, 9000), (8192, 4096), (30_000, 1)]):
        [name] = image_file(["/usr/bin/" + ("base32", "cksum", "comm", "cmp", "cut")[number]])
        content = bytearray(read(name))
        fd = os.open(name, os.O_RDWR)
        os.pwrite(fd, b"w" * length, place)
        content[place : place + length] = b"w" * length
        kit.libc("fallocate", fd, 3, 1000, 6000)
        content[1000:7000] = b"\0" * 6000
        kit.libc("fallocate", fd, 0, 20_000, 200_000)
        content += b"\0" * (220_000 - len(content))
        os.copy_file_range(fd, fd, 5000, 10_000, 100_001)
        content[100_001:105_001] = content[10_000:15_000]
        answers.append(os.pread(fd, 1 << 20, 0) == bytes(content))
        os.fsync(fd)
        answers.append(read(name) == bytes(content))
        os.rename(name, f"kept{number}")
    return answers
