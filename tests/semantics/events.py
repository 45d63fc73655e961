"""What inotify and dnotify tell."""

import ctypes
import fcntl
import os
import signal
import struct

from kit import case, child, give_name, libc, tries, write

NAMES = {
    0x1: "access",
    0x2: "modify",
    0x4: "attrib",
    0x8: "close-write",
    0x10: "close",
    0x20: "open",
    0x40: "moved-from",
    0x80: "moved-to",
    0x100: "create",
    0x200: "delete",
    0x400: "delete-self",
    0x800: "move-self",
    0x2000: "unmount",
    0x4000: "overflow",
    0x8000: "ignored",
    0x40000000: "dir",
}
ALL = 0xFFF


class Watch:
    """Events of these paths, in their order."""

    def __init__(self, *paths, mask=ALL):
        self.fd = libc("inotify_init1", os.O_NONBLOCK)
        self.paths = {libc("inotify_add_watch", self.fd, path, mask): path for path in paths}

    def events(self):
        told, cookies = [], {0: ""}
        try:
            buffer = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return told
        while buffer:
            watch, mask, cookie, length = struct.unpack_from("iIII", buffer)
            name = buffer[16 : 16 + length].rstrip(b"\0").decode()
            if name.startswith(("#", "/")):
                name = "(none)"  # what stands for the name of a file without one
            bits = "+".join(word for bit, word in NAMES.items() if mask & bit)
            pair = cookies.setdefault(cookie, f"#{len(cookies)}")
            told.append(f"{self.paths[watch]} {bits} {name}{pair}".strip())
            buffer = buffer[16 + length :]
        return told


@case
def inotify_of_a_files_life():
    watch = Watch(".")
    with open("f", "w") as file:
        file.write("x")
    os.chmod("f", 0o600)
    read = open("f").read()
    os.truncate("f", 0)
    os.link("f", "g")
    os.symlink("f", "s")
    os.unlink("g")
    os.unlink("f")
    return read, watch.events()


@case
def inotify_of_directories_and_renames():
    os.mkdir("to")
    watch = Watch(".", "to")
    os.mkdir("d")
    write("f")
    write("over")
    watch.events()
    os.rename("f", "over")
    os.rename("over", "to/f")
    os.rename("d", "to/d")
    os.rmdir("to/d")
    os.listdir("to")
    return watch.events()


@case
def inotify_of_the_file_itself():
    write("f", b"content")
    watch = Watch("f")
    os.utime("f", ns=(1, 1))
    os.chown("f", 0, 0)
    os.setxattr("f", "user.x", b"1")
    os.removexattr("f", "user.x")
    os.link("f", "g")
    os.rename("f", "h")
    os.unlink("g")
    fd = os.open("h", os.O_RDWR)
    os.unlink("h")
    os.pwrite(fd, b"1", 0)
    os.ftruncate(fd, 100)
    os.posix_fallocate(fd, 0, 1000)
    before = watch.events()
    os.close(fd)
    return before, watch.events()


@case
def inotify_of_a_removed_directory():
    os.mkdir("d")
    watch = Watch("d")
    write("d/x")
    os.unlink("d/x")
    os.rmdir("d")
    return watch.events()


@case
def inotify_of_an_exchange():
    write("a")
    write("b")
    watch = Watch(".", "a")
    libc("syscall", 316, -100, "a", -100, "b", 2)
    return watch.events()


@case
def inotify_of_another_process_and_of_mappings():
    import mmap

    write("f", b"x" * 100)
    watch = Watch("f")

    def other():
        fd = os.open("f", os.O_RDWR)
        mapping = mmap.mmap(fd, 100)
        mapping[0] = 65
        mapping.flush()
        mapping.close()
        os.sendfile(os.open("copy", os.O_WRONLY | os.O_CREAT), fd, 0, 10)
        os.copy_file_range(fd, fd, 10, 0, 50)

    child(other)
    return watch.events()


@case
def inotify_of_a_temporary_file_that_gets_a_name():
    watch = Watch(".")
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR)
    give_name(fd, "named")
    os.close(fd)
    return watch.events()


@case
def inotify_watches_only_what_it_should():
    write("f")
    os.symlink("f", "s")
    watch = Watch("s", mask=ALL | 0x02000000)  # the link itself
    os.utime("s", ns=(1, 1), follow_symlinks=False)
    os.chmod("f", 0o600)
    os.unlink("s")
    return watch.events()


@case
def fanotify_of_a_file():
    write("f")
    fd = tries(libc, "fanotify_init", 0x200, os.O_RDONLY)  # FAN_REPORT_FID, which needs no privilege
    if isinstance(fd, str):
        return fd
    answers = [tries(libc, "fanotify_mark", fd, 1, ctypes.c_ulong(0x2 | 0x20), -100, "f")]
    if answers == [0]:
        write("f", b"x")
        answers.append(len(os.read(fd, 4096)) > 0)
    return answers


@case
def dnotify_signals():
    heard = []
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    fd = os.open(".", os.O_RDONLY)
    for event, act in [
        (fcntl.DN_CREATE, lambda: write("f")),
        (fcntl.DN_DELETE, lambda: os.unlink("f")),
        (fcntl.DN_RENAME, lambda: os.rename(write("g"), "h")),
        (fcntl.DN_ATTRIB, lambda: os.chmod("h", 0)),
    ]:
        fcntl.fcntl(fd, fcntl.F_NOTIFY, event)
        act()
        heard.append(signal.sigtimedwait([signal.SIGIO], 0) is not None)
    return heard
