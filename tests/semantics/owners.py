"""Owners, modes and what they allow; set-id bits, sticky and set-group-id directories."""

import os
import shutil
import stat

from kit import ALICE, BOB, CLUB, case, child, give_name, image_file, libc, look, mode, read, system, tries, write
from xattrs import CAPABLE

SET_ID = (0o6755, 0o6644, 0o6666, 0o4755, 0o2755, 0o2745, 0o2644, 0o6777, 0o7777)


def direct(path):
    import mmap

    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    os.pwritev(fd, [mmap.mmap(-1, 4096)], 0)


def mapped(path):
    import mmap

    mapping = mmap.mmap(os.open(path, os.O_RDWR), 4096)
    mapping[0] = 1
    mapping.flush()


def by_descriptor(flags, call):
    def run(path):
        fd = os.open(path, flags)
        call(fd)
        os.close(fd)

    return run


# What takes set-id bits and capabilities, and, by root and the owner alone, what should not.
WRITES = {
    "write": by_descriptor(os.O_WRONLY, lambda fd: os.write(fd, b"x")),
    "append": by_descriptor(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"x")),
    "direct": direct,
    "map": mapped,
    "truncate": lambda path: os.truncate(path, 5),
    "truncate to its size": lambda path: os.truncate(path, 8192),
    "ftruncate": by_descriptor(os.O_WRONLY, lambda fd: os.ftruncate(fd, 10_000)),
    "ftruncate to its size": by_descriptor(os.O_WRONLY, lambda fd: os.ftruncate(fd, 8192)),
    "open to truncate": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "allocate": by_descriptor(os.O_WRONLY, lambda fd: os.posix_fallocate(fd, 0, 20_000)),
    "keep size": by_descriptor(os.O_WRONLY, lambda fd: libc("fallocate", fd, 1, 0, 4096)),
    "punch": by_descriptor(os.O_WRONLY, lambda fd: libc("fallocate", fd, 3, 0, 4096)),
    "copy": by_descriptor(os.O_WRONLY, lambda fd: os.copy_file_range(os.open("source", os.O_RDONLY), fd, 10)),
    "sendfile": by_descriptor(os.O_WRONLY, lambda fd: os.sendfile(fd, os.open("source", os.O_RDONLY), 0, 10)),
    "chown to nobody": lambda path: os.chown(path, -1, -1),
}
HARMLESS = {
    "nothing": by_descriptor(os.O_WRONLY, lambda fd: os.write(fd, b"")),
    "open": by_descriptor(os.O_RDWR, lambda fd: None),
    "chmod": lambda path: os.chmod(path, stat.S_IMODE(os.stat(path).st_mode)),
    "utime": lambda path: os.utime(path),
    "setxattr": lambda path: os.setxattr(path, "user.x", b"1"),
    "link": lambda path: os.link(path, path + "-link"),
    "rename": lambda path: os.rename(path, path + "-new") or os.rename(path + "-new", path),
    "removexattr": lambda path: os.setxattr(path, "user.x", b"1") or os.removexattr(path, "user.x"),
    "fsync": by_descriptor(os.O_WRONLY, os.fsync),
}


def left(name, act, modes, owner, **user):
    """What is left of set-id bits and capabilities."""
    told = []
    for number, bits in enumerate(modes):
        path = write(f"{name.replace(' ', '-')}{number}", b"x" * 8192, owner=owner)
        os.chmod(path, bits)
        os.setxattr(path, "security.capability", CAPABLE)
        answer = child(lambda: tries(act, path), **user)
        kept = "+" if "security.capability" in os.listxattr(path) else ""
        told.append(mode(path) + kept + ("" if answer == "ok" else f" {answer}"))
    return f"{name}: {', '.join(told)}"


def set_id_case(title, modes, owner, acts=WRITES, ids=True, **user):
    """One case for each kind of writing."""
    for name, act in acts.items():

        def run(name=name, act=act):
            os.chmod(".", 0o777), write("source", b"s" * 100)
            return left(name, act, modes, owner, **user)

        run.__name__ = f"set_id_{title}_{name.replace(' ', '_')}"
        case(run, ids=ids)


set_id_case("of_root_by_root", SET_ID, (0, 0), WRITES | HARMLESS, ids=False)
set_id_case("of_alice_by_alice", SET_ID, (ALICE, ALICE), WRITES | HARMLESS, uid=ALICE)
set_id_case("of_alice_and_a_strange_group_by_alice", (0o6755, 0o4644, 0o2755), (ALICE, CLUB), uid=ALICE)
set_id_case("of_alice_by_a_member", (0o6775, 0o6666, 0o6777), (ALICE, CLUB), uid=BOB, gid=CLUB)
set_id_case("of_alice_by_bob", (0o6777, 0o4666, 0o0777), (ALICE, ALICE), uid=BOB)
set_id_case("of_alice_by_root", (0o6755, 0o6666), (ALICE, CLUB))


@case(ids=True)
def set_gid_without_execution_and_a_stranger():
    os.chmod(".", 0o777), write("source", b"s" * 100)
    return [
        left(name, WRITES[name], (0o6666, 0o2745, 0o2666), (ALICE, CLUB), uid=ALICE)
        for name in ("write", "truncate", "allocate", "chown to nobody")
    ]


@case(ids=True)
def set_gid_without_execution_and_a_member_by_another_group():
    os.chmod(".", 0o777)
    return left("write", WRITES["write"], (0o6666, 0o2666), (ALICE, CLUB), uid=BOB, groups=[CLUB])


@case
def set_id_of_root_and_chown():
    answers = []
    for number, bits in enumerate(SET_ID):
        for owner in [(0, 0), (0, -1), (-1, 0), (-1, -1)]:
            for call in (os.chown, os.lchown):
                path = write(f"f{number}{owner}{call.__name__}", mode=bits)
                call(path, *owner)
                answers.append(mode(path))
    return answers


@case
def set_id_of_other_kinds_and_chown():
    os.mkdir("d"), os.mkfifo("p"), os.mknod("s", stat.S_IFSOCK | 0o600)
    answers = []
    for path in "dps":
        for owner in [(0, 0), (-1, -1)]:
            os.chmod(path, 0o6777)
            os.chown(path, *owner)
            answers.append(mode(path))
    return answers


@case(ids=True)
def set_id_and_chown_to_others():
    answers = []
    for number, (bits, owner) in enumerate(
        [
            (bits, owner)
            for bits in (0o6755, 0o6666, 0o6644)
            for owner in ((ALICE, -1), (-1, CLUB), (BOB, CLUB), (-1, -1))
        ]
    ):
        path = write(f"f{number}", mode=bits, owner=(ALICE, ALICE))
        os.setxattr(path, "security.capability", CAPABLE)
        os.chown(path, *owner)
        answers.append((look(path), os.listxattr(path)))
    return answers


@case(ids=True)
def set_id_and_chgrp_by_the_owner():
    os.chmod(".", 0o777)
    answers = []
    for number, (bits, group) in enumerate(
        [(bits, group) for bits in (0o6755, 0o6666, 0o2745) for group in (CLUB, ALICE, BOB, -1)]
    ):
        path = write(f"f{number}", mode=bits, owner=(ALICE, ALICE))
        answers.append((child(lambda: tries(os.chown, path, -1, group), ALICE, groups=[CLUB]), look(path)))
    return answers


@case
def set_id_of_the_images_programs():
    answers = []
    for program, act in [
        ("/usr/bin/passwd", "write"),
        ("/usr/bin/chsh", "chown to nobody"),
        ("/usr/bin/newgrp", "ftruncate"),
        ("/usr/bin/chage", "allocate"),
        ("/usr/bin/expiry", "write"),
        ("/usr/bin/gpasswd", "truncate to its size"),
    ]:
        [name] = image_file([program])
        before = mode(name)
        WRITES[act](name)
        answers.append((before, mode(name)))
        os.unlink(name)
    return answers


@case
def a_mode_is_seen_at_once_by_an_open_file():
    fd = os.open(write("f", b"x"), os.O_RDWR)
    os.fchmod(fd, 0o6755)
    answers = [stat.filemode(os.fstat(fd).st_mode)]
    os.pwrite(fd, b"y", 0)
    answers += [stat.filemode(os.fstat(fd).st_mode), mode("f"), child(lambda: mode("f"))]
    os.fsync(fd), os.close(fd)
    return answers, mode("f")


# --- chmod and chown ---


@case
def modes_of_all_kinds():
    write("f"), os.mkdir("d"), os.mkfifo("p"), os.mknod("s", stat.S_IFSOCK | 0o600), os.symlink("f", "l")
    answers = []
    for path in "fdps":
        for bits in (0, 0o777, 0o7777, 0o1000, 0o4000, 0o2000):
            os.chmod(path, bits)
            answers.append(mode(path))
    answers += [mode("l"), tries(system, "fchmodat2", -100, "l", 0o600, 0x100), mode("l"), mode("f")]
    return answers, tries(os.chmod, "absent", 0), tries(os.chmod, "f/x", 0), tries(os.chmod, "", 0)


@case
def modes_by_descriptors_without_access():
    write("f", mode=0o600), os.symlink("f", "l")
    path, link = os.open("f", os.O_PATH), os.open("l", os.O_PATH | os.O_NOFOLLOW)
    answers = [
        tries(os.fchmod, path, 0o640),
        tries(os.chmod, f"/proc/self/fd/{path}", 0o644),
        mode("f"),
        tries(system, "fchmodat2", path, "", 0o751, 0x1000),
        mode("f"),
    ]
    answers += [
        tries(libc, "fchownat", path, "", 0, 0, 0x1000),
        tries(os.chmod, f"/proc/self/fd/{link}", 0o600),
        tries(system, "fchmodat2", link, "", 0o600, 0x1000),
    ]
    return answers, mode("f"), mode("l"), tries(os.open, f"/proc/self/fd/{link}", os.O_RDONLY)


@case
def what_is_made_has_the_mode_less_the_mask():
    answers = []
    for mask in (0, 0o022, 0o077, 0o777):
        os.umask(mask)
        os.close(os.open(f"f{mask}", os.O_CREAT, 0o7777)), os.mkdir(f"d{mask}", 0o7777), os.mkfifo(
            f"p{mask}", 0o666
        ), os.mknod(f"n{mask}", 0o106777), os.symlink("x", f"l{mask}")
        answers.append([mode(f"{kind}{mask}") for kind in "fdpnl"])
    return answers


@case(ids=True)
def who_may_change_owners_and_modes():
    write("mine", owner=(ALICE, ALICE)), write("roots"), write("clubs", owner=(ALICE, CLUB))
    acts = lambda: [
        tries(os.chmod, "roots", 0o666),
        tries(os.chown, "roots", ALICE, -1),
        tries(os.chown, "mine", BOB, -1),
        tries(os.chown, "mine", ALICE, ALICE),
        tries(os.chown, "mine", -1, CLUB),
        tries(os.chown, "mine", -1, BOB),
        tries(os.chmod, "mine", 0o6755),
        tries(os.chmod, "clubs", 0o2755),
        tries(os.chown, "roots", -1, -1),
        tries(os.chown, "mine", -1, -1),
        tries(os.truncate, "roots", 0),
        tries(os.unlink, "roots"),
    ]
    return (
        child(acts, ALICE, groups=[CLUB]),
        look("mine"),
        look("clubs"),
        child(acts, ALICE),
        look("mine"),
        look("clubs"),
    )


@case(ids=True)
def setgid_is_for_members_of_the_group():
    answers = []
    for groups in ([], [CLUB]):
        for bits in (0o2755, 0o2644, 0o2770):
            write("f", owner=(ALICE, CLUB))
            child(lambda: os.chmod("f", bits), ALICE, groups=groups)
            answers.append(mode("f"))
    os.mkdir("d"), os.chown("d", ALICE, CLUB)
    child(lambda: os.chmod("d", 0o2775), ALICE)
    return answers, mode("d")


@case
def owners_that_are_not_mapped():
    write("f")
    return [tries(os.chown, "f", 4_000_000_000, -1), tries(os.chown, "f", -1, 4_000_000_000), look("f")]


@case
def owners_of_links():
    write("f"), os.symlink("f", "s")
    return tries(os.lchown, "s", 0, 0), tries(os.chown, "s", 0, 0), look("s"), tries(os.chown, "absent", 0, 0)


@case(ids=True)
def owners_of_links_and_files():
    write("f"), os.symlink("f", "s"), os.mkdir("d"), os.mkfifo("p")
    os.lchown("s", ALICE, BOB)
    answers = [look("s"), look("f")]
    os.chown("s", BOB, CLUB), os.chown("d", ALICE, CLUB), os.chown("p", 65534, 65534)
    return answers, look("f"), look("d"), look("p")


# --- directories ---


@case(ids=True)
def setgid_directories_hand_on_their_group():
    os.mkdir("d"), os.chown("d", 0, CLUB), os.chmod("d", 0o2777)

    def make():
        os.umask(0o002)
        os.close(os.open("d/f", os.O_CREAT, 0o666)), os.mkdir("d/e"), os.mkdir("d/e/deeper"), os.symlink(
            "f", "d/s"
        ), os.mkfifo("d/p")
        os.close(os.open("d/set", os.O_CREAT, 0o2775)), os.close(os.open("d/mark", os.O_CREAT, 0o2664)), os.mkdir(
            "d/plain", 0o2755
        ), os.mknod("d/node", 0o102775)
        fd = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o2775)
        give_name(fd, "d/temporary")

    child(make, ALICE)
    told = [(name, look(f"d/{name}")) for name in sorted(os.listdir("d"))] + [look("d/e/deeper")]
    shutil.rmtree("d"), os.mkdir("d"), os.chown("d", 0, CLUB), os.chmod("d", 0o2777)
    child(make, ALICE, groups=[CLUB])
    return told, [(name, look(f"d/{name}")) for name in sorted(os.listdir("d"))]


@case
def setgid_directories_of_one_group():
    os.mkdir("d"), os.chmod("d", 0o2777)
    os.mkdir("d/e"), write("d/f"), os.mkdir("plain"), os.rename("plain", "d/plain"), os.mkfifo("d/p")
    return [mode(f"d/{name}") for name in ("e", "f", "plain", "p")]


@case(ids=True)
def sticky_directories():
    os.mkdir("d"), os.chmod("d", 0o1777)
    for user in (ALICE, BOB):
        for number in range(4):
            write(f"d/{user}-{number}", owner=(user, user), mode=0o666)
        os.mkdir(f"d/dir{user}"), os.chown(f"d/dir{user}", user, user)
    acts = lambda: [
        tries(os.unlink, f"d/{BOB}-0"),
        tries(os.rename, f"d/{BOB}-0", "d/x"),
        tries(os.rename, f"d/{ALICE}-0", f"d/{BOB}-1"),
        tries(os.rmdir, f"d/dir{BOB}"),
        tries(os.unlink, f"d/{ALICE}-1"),
        tries(os.rename, f"d/{ALICE}-2", "d/y"),
        tries(system, "renameat2", -100, "d/y", -100, f"d/{BOB}-1", 2),
        tries(os.rmdir, f"d/dir{ALICE}"),
        tries(os.link, "d/y", "d/z"),
        tries(os.mkdir, "d/new"),
    ]
    answers = [child(acts, ALICE)]
    os.chown("d", ALICE, ALICE)
    answers += [child(lambda: [tries(os.unlink, f"d/{BOB}-2"), tries(os.rmdir, f"d/dir{BOB}")], ALICE)]
    return answers, child(lambda: tries(os.unlink, f"d/{ALICE}-3"), BOB), sorted(os.listdir("d"))


@case(ids=True)
def protected_files_of_sticky_directories():
    os.mkdir("d"), os.chmod("d", 0o1777)
    write("d/f", owner=(ALICE, ALICE), mode=0o666), os.symlink("f", "d/s"), os.lchown("d/s", ALICE, ALICE), os.mkfifo(
        "d/p"
    ), os.chown("d/p", ALICE, ALICE), os.chmod("d/p", 0o666)
    acts = lambda: [
        tries(lambda: os.close(os.open("d/f", os.O_WRONLY | os.O_CREAT))),
        tries(lambda: os.close(os.open("d/s", os.O_RDONLY))),
        tries(lambda: os.close(os.open("d/f", os.O_RDONLY))),
        tries(lambda: os.close(os.open("d/p", os.O_RDWR | os.O_CREAT))),
        tries(os.link, "d/f", "d/hard"),
    ]
    write("setuid", owner=(ALICE, ALICE), mode=0o4777), write("unreadable", owner=(ALICE, ALICE), mode=0o600)
    os.chmod(".", 0o777)
    return (
        child(acts, BOB),
        child(acts, ALICE),
        child(lambda: [tries(os.link, "setuid", "l1"), tries(os.link, "unreadable", "l2")], BOB),
    )


@case(ids=True)
def permissions_of_directories():
    os.makedirs("d/e"), write("d/f", b"x", mode=0o644), os.makedirs("none/x")
    answers = []
    for bits in (0o700, 0o711, 0o744, 0o755, 0o722, 0o733, 0o777):
        os.chmod("d", bits)
        answers.append(
            child(
                lambda: [
                    oct(bits),
                    tries(lambda: sorted(os.listdir("d"))),
                    tries(read, "d/f"),
                    tries(os.stat, "d/absent"),
                    tries(os.mkdir, f"d/made{bits}"),
                    tries(os.chdir, "d"),
                    tries(os.open, "d/absent", os.O_RDONLY),
                ],
                ALICE,
            )
        )
    os.chmod("none", 0)
    return answers, child(lambda: tries(os.stat, "none/x"), ALICE), tries(os.listdir, "none")


# --- what is allowed ---


@case
def roots_access():
    write("f", b"x", mode=0), write("x", b"x", mode=0o001), os.mkdir("d"), os.chmod("d", 0)
    answers = [
        (path, [os.access(path, how) for how in (os.F_OK, os.R_OK, os.W_OK, os.X_OK)])
        for path in ("f", "x", "d", "absent")
    ]
    return (
        answers,
        read("f"),
        tries(os.listdir, "d"),
        tries(os.mkdir, "d/e"),
        tries(os.execv, "f", ["f"]),
        tries(write, "f", b"y"),
    )


@case(ids=True)
def access_by_real_and_effective_ids():
    write("f", b"x", mode=0o640, owner=(ALICE, CLUB))

    def ask():
        os.setresgid(BOB, BOB, BOB), os.setresuid(BOB, ALICE, 0)
        return [
            os.access("f", os.R_OK),
            os.access("f", os.R_OK, effective_ids=True),
            tries(system, "faccessat2", -100, "f", 4, 0x200),
            tries(system, "faccessat2", -100, "f", 4, 0),
            tries(system, "faccessat2", -100, "f", 1, 0x200),
            tries(system, "faccessat2", -100, "f", 8, 0),
            tries(system, "faccessat2", -100, "f", 0, 0x100),
        ]

    by_group = lambda: [os.access("f", os.R_OK), os.access("f", os.W_OK)]
    return child(ask), child(by_group, BOB), child(by_group, BOB, groups=[CLUB]), child(by_group, BOB, gid=CLUB)


@case(ids=True)
def access_of_each_class():
    answers = []
    for bits in (0o700, 0o070, 0o007, 0o077, 0o707, 0o640, 0o604):
        write("f", b"x", owner=(ALICE, CLUB), mode=bits)
        reach = lambda: "".join(
            letter if os.access("f", how) else "-" for letter, how in (("r", 4), ("w", 2), ("x", 1))
        )
        answers.append(
            [
                oct(bits),
                child(reach, ALICE),
                child(reach, BOB, groups=[CLUB]),
                child(reach, BOB),
                child(reach, ALICE, groups=[CLUB]),
            ]
        )
    return answers


@case(ids=True)
def opening_without_outdating():
    write("f", owner=(ALICE, ALICE), mode=0o666)
    act = lambda: tries(lambda: os.close(os.open("f", os.O_RDONLY | os.O_NOATIME)))
    return child(act, BOB), child(act, ALICE), act()


@case(ids=True)
def an_open_file_keeps_its_access():
    write("f", b"text", mode=0o644, owner=(ALICE, ALICE))
    reading, writing = os.open("f", os.O_RDONLY), os.open("f", os.O_WRONLY)
    os.chmod("f", 0)
    return child(
        lambda: [
            tries(os.read, reading, 4),
            tries(os.write, writing, b"T"),
            tries(os.open, "f", os.O_RDONLY),
            tries(os.open, f"/proc/self/fd/{reading}", os.O_RDONLY),
            tries(os.ftruncate, writing, 1),
            tries(os.fchmod, reading, 0o600),
        ],
        BOB,
    )


@case(ids=True)
def making_things_needs_the_directory():
    os.mkdir("d"), os.chown("d", ALICE, ALICE), write("d/f", owner=(BOB, BOB), mode=0o600)
    acts = lambda: [
        tries(os.mkdir, "d/x"),
        tries(os.rename, "d/f", "d/g"),
        tries(os.unlink, "d/g"),
        tries(os.open, "d", os.O_TMPFILE | os.O_RDWR) not in ("EACCES",),
        tries(os.symlink, "a", "d/s"),
    ]
    return child(acts, BOB), child(acts, ALICE), sorted(os.listdir("d"))
