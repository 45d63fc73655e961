"""Programs, pipes, sockets and nodes in the tree."""

import errno
import os
import select
import socket
import stat
import subprocess

from kit import ALICE, BOB, CLUB, case, child, image_file, look, mode, read, start, tries, write
from xattrs import CAPABLE


def runs(*words, **named):
    """Exit code and output, or the name of the error."""
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return done.returncode, done.stdout


@case
def programs_run():
    write("program", read("/bin/echo"), mode=0o755), os.symlink("program", "link"), os.mkdir("d"), os.link(
        "program", "hard"
    )
    answers = [
        runs("./program", "hello"),
        runs("./link", "hello"),
        runs("./hard", "hello"),
        runs("./d"),
        runs("./absent"),
        runs("./program/x"),
    ]
    os.chmod("program", 0o644)
    answers += [runs("./program"), runs("./link"), runs("/lib64/ld-linux-x86-64.so.2", "./program", "by the loader")]
    os.chmod("program", 0o001)
    answers += [runs("./program", "for root any x will do")]
    fd = os.open("program", os.O_RDONLY)
    answers += [runs(f"/proc/self/fd/{fd}", "by descriptor", pass_fds=[fd])]
    os.unlink("program")
    return answers, runs(f"/proc/self/fd/{fd}", "unlinked", pass_fds=[fd])


@case
def scripts_run():
    script = write("script", '#!/bin/sh\necho "$0 $1"\n', mode=0o755)
    write("nested", f"#!./script\n", mode=0o755), write("argument", "#!/bin/echo one two\n", mode=0o755), write(
        "no-program", "#!/no/such\n", mode=0o755
    )
    write("no-format", "neither\n", mode=0o755), write("empty", mode=0o755), write(
        "endless", "#!./endless\n", mode=0o755
    ), write("long", "#!/" + "x" * 300 + "\n", mode=0o755)
    names = ["script", "nested", "argument", "no-program", "no-format", "empty", "endless", "long"]
    return [(name, runs(f"./{name}", "word")) for name in names], script


@case(ids=True)
def programs_with_capabilities():
    write("cat", read("/bin/cat"), mode=0o755)
    os.setxattr("cat", "security.capability", CAPABLE)
    effective = lambda: [
        line for line in runs("./cat", "/proc/self/status")[1].decode().splitlines() if line.startswith("CapEff")
    ]
    answers = [child(effective, ALICE)]
    with open("cat", "ab") as file:
        file.write(b"x")
    return answers, child(effective, ALICE), os.listxattr("cat")


@case
def a_running_program_is_busy():
    write("program", read("/bin/sleep"), mode=0o755)
    process = subprocess.Popen(["./program", "100"])
    acts = [
        ("write", lambda: os.open("program", os.O_WRONLY)),
        ("both", lambda: os.open("program", os.O_RDWR)),
        ("truncate", lambda: os.truncate("program", 0)),
        ("append", lambda: os.open("program", os.O_WRONLY | os.O_APPEND)),
        ("read", lambda: os.close(os.open("program", os.O_RDONLY))),
        ("chmod", lambda: os.chmod("program", 0o700)),
        ("rename", lambda: os.rename("program", "moved")),
        ("link", lambda: os.link("moved", "linked")),
        ("unlink", lambda: os.unlink("moved")),
        ("write again", lambda: os.open("linked", os.O_WRONLY)),
    ]
    answers = [(name, tries(act)) for name, act in acts]
    process.kill(), process.wait()
    answers.append(("afterwards", tries(lambda: os.close(os.open("linked", os.O_WRONLY)))))
    fd = os.open("linked", os.O_WRONLY)
    return answers, runs("./linked", "0"), os.close(fd), runs("./linked", "0")


@case
def a_program_of_the_image_is_busy():
    [name] = image_file(["/bin/sleep"])
    process = subprocess.Popen([f"./{name}", "100"])
    answers = [tries(os.open, name, os.O_WRONLY), tries(os.truncate, name, 0), tries(os.unlink, name), process.poll()]
    process.kill(), process.wait()
    return answers


@case(ids=True)
def set_id_programs_and_users():
    write("id", read("/usr/bin/id"), mode=0o755)
    return [
        child(lambda: runs("./id", "-u"), ALICE),
        child(lambda: runs("./id", "-g"), ALICE, groups=[CLUB]),
        (os.chmod("id", 0o750), child(lambda: runs("./id", "-u"), ALICE)),
        (os.chmod("id", 0o711), child(lambda: runs("./id", "-u"), ALICE)),
    ]


@case(ids=True)
def set_id_programs_take_their_owner():
    write("id", read("/usr/bin/id"), owner=(BOB, CLUB), mode=0o6755)
    answers = [child(lambda: runs("./id", "-u"), ALICE), child(lambda: runs("./id", "-g"), ALICE)]
    child(lambda: None)
    with open("id", "ab") as file:
        file.write(b"x")
    return answers, mode("id"), child(lambda: runs("./id", "-u"), ALICE)


# --- pipes ---


@case
def opening_a_fifo():
    os.mkfifo("p", 0o600)
    answers = [mode("p"), tries(os.open, "p", os.O_WRONLY | os.O_NONBLOCK)]
    reading = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open("p", os.O_WRONLY)
    answers += [
        tries(os.read, reading, 10),
        os.write(writing, b"through"),
        os.read(reading, 10),
        tries(os.lseek, reading, 0, 0),
        os.fstat(reading).st_size,
    ]
    os.close(writing)
    answers += [os.read(reading, 1), tries(os.ftruncate, reading, 0), tries(os.truncate, "p", 0)]
    os.link("p", "q")
    writing = os.open("q", os.O_WRONLY)
    os.unlink("p"), os.rename("q", "r"), os.write(writing, b"!")
    return answers, os.read(reading, 1), tries(os.mkfifo, "r"), tries(os.open, "r", os.O_RDONLY | os.O_DIRECTORY)


@case
def two_processes_talk_through_a_fifo():
    os.mkfifo("p")

    def talker():
        with open("p", "w") as pipe:
            pipe.write("hello")
        with open("p") as pipe:
            return pipe.read()

    answer = start(talker)
    with open("p") as pipe:
        heard = pipe.read()
    with open("p", "w") as pipe:
        pipe.write(heard + " back")
    return heard, answer()


# --- sockets ---


@case
def sockets_in_the_tree():
    os.mkdir("d"), write("file")
    server = socket.socket(socket.AF_UNIX)
    server.bind("d/s")
    answers = [mode("d/s"), tries(socket.socket(socket.AF_UNIX).connect, "d/s")]
    server.listen(5)
    answers += [
        tries(socket.socket(socket.AF_UNIX).bind, "d/s"),
        tries(socket.socket(socket.AF_UNIX).connect, "file"),
        tries(socket.socket(socket.AF_UNIX).connect, "absent"),
    ]
    answers += [
        tries(os.open, "d/s", os.O_RDONLY),
        tries(os.open, "d/s", os.O_PATH) > 2,
        tries(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect, "d/s"),
    ]
    os.link("d/s", "hard"), os.symlink("d/s", "soft"), os.rename("d/s", "moved")

    def client(path):
        def run():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            connection.sendall(b"hello")
            return connection.recv(10), os.path.basename(connection.getpeername())

        return start(run)

    for path in ("hard", "moved"):
        answer = client(path)
        connection, _ = server.accept()
        connection.sendall(connection.recv(10) + b"!")
        answers += [answer()]
    answers += [tries(socket.socket(socket.AF_UNIX).connect, "soft")]
    os.unlink("moved")
    answers += [tries(socket.socket(socket.AF_UNIX).connect, "moved")]
    server.close()
    return answers, tries(socket.socket(socket.AF_UNIX).connect, "hard")


@case(ids=True)
def sockets_want_write_access():
    server = socket.socket(socket.AF_UNIX)
    server.bind("s")
    server.listen(5)
    reach = lambda: tries(socket.socket(socket.AF_UNIX).connect, "s")
    answers = []
    for bits in (0o600, 0o644, 0o666):
        os.chmod("s", bits)
        answers.append(child(reach, ALICE))
    return answers, child(lambda: tries(socket.socket(socket.AF_UNIX).bind, "other"), ALICE)


@case
def datagrams_and_credentials():
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind("s")
    fd = os.open(write("f", b"passed"), os.O_RDONLY)
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect("s")
    socket.send_fds(sender, [b"x"], [fd])
    _, [got], _, _ = socket.recv_fds(server, 10, 1)
    return os.read(got, 10), os.fstat(got).st_ino == os.stat("f").st_ino


# --- nodes ---


@case
def nodes():
    kinds = [
        ("file", stat.S_IFREG),
        ("fifo", stat.S_IFIFO),
        ("socket", stat.S_IFSOCK),
        ("none", 0),
        ("directory", stat.S_IFDIR),
        ("link", stat.S_IFLNK),
    ]
    answers = [
        (name, tries(os.mknod, name, kind | 0o640), mode(name) if os.path.lexists(name) else None)
        for name, kind in kinds
    ]
    return answers, tries(os.mknod, "file", 0o600), tries(os.mknod, "absent/x"), tries(os.mknod, "x" * 256)


@case
def devices_are_not_for_containers():
    answers = [
        tries(os.mknod, name, kind | 0o666, device)
        for name, kind, device in [
            ("null", stat.S_IFCHR, os.makedev(1, 3)),
            ("disk", stat.S_IFBLK, os.makedev(8, 0)),
            ("whiteout", stat.S_IFCHR, 0),
        ]
    ]
    return answers, sorted(os.listdir("."))


@case
def opening_a_device():
    os.mknod("whiteout", stat.S_IFCHR)
    return tries(os.open, "whiteout", os.O_RDONLY)


@case(ids=True)
def nodes_by_users():
    os.chmod(".", 0o777)
    return child(
        lambda: [
            tries(os.mknod, "f", stat.S_IFREG | 0o666),
            tries(os.mkfifo, "p"),
            tries(os.mknod, "s", stat.S_IFSOCK | 0o600),
            tries(os.mknod, "w", stat.S_IFCHR, 0),
            tries(os.mknod, "n", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
        ],
        ALICE,
    ), [(name, look(name)) for name in sorted(os.listdir("."))]


@case
def polling_files_and_pipes():
    os.mkfifo("p"), write("f", b"x")
    file, pipe = os.open("f", os.O_RDWR), os.open("p", os.O_RDWR)
    poll = select.poll()
    poll.register(file), poll.register(pipe)
    events = {file: "file", pipe: "pipe"}
    return sorted((events[fd], what) for fd, what in poll.poll(0)), tries(
        select.epoll().register, pipe, select.EPOLLIN
    )


@case
def waiting_for_a_regular_file():
    return tries(select.epoll().register, os.open(write("f"), os.O_RDWR), select.EPOLLIN)


@case
def descriptors_are_handed_on():
    fd = os.open(write("f", b"0123456789"), os.O_RDWR)
    child(lambda: os.read(fd, 4))
    answers = [os.read(fd, 2)]  # one place for both
    os.set_inheritable(fd, True)
    answers += [runs("sh", "-c", f"cat <&{fd}", close_fds=False), os.lseek(fd, 0, os.SEEK_CUR)]
    return answers, runs("sh", "-c", "echo shell >> f; cat f")
