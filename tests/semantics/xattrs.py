"""Extended attributes and access control lists."""

import os
import struct

from kit import ALICE, BOB, CLUB, case, child, give_name, libc, look, mode, tries, write

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY = 0xFFFFFFFF


def acl(*entries):
    """An attribute's value from (tag, permissions[, id])."""
    packed = [struct.pack("<HHI", entry[0], entry[1], entry[2] if len(entry) > 2 else NOBODY) for entry in entries]
    return struct.pack("<I", 2) + b"".join(packed)


def listed(path, name=ACCESS):
    """An access control list as getfacl shows it, shortened."""
    try:
        bytes_ = os.getxattr(path, name)
    except OSError as error:
        return error.strerror
    words = {1: "u:", 2: "u:", 4: "g:", 8: "g:", 16: "m:", 32: "o:"}
    told = []
    for at in range(4, len(bytes_), 8):
        tag, perm, who = struct.unpack_from("<HHI", bytes_, at)
        name = "" if who == NOBODY else str(who)
        told.append(
            words[tag] + name + ":" + "".join(letter if perm & bit else "-" for letter, bit in zip("rwx", (4, 2, 1)))
        )
    return " ".join(told)


MINIMAL = acl((USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 0))
FOR_ALICE = acl((USER_OBJ, 7), (USER, 6, ALICE), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0))


@case
def user_attributes():
    write("f"), os.mkdir("d")
    for path in "fd":
        os.setxattr(path, "user.one", b"1"), os.setxattr(path, "user.empty", b""), os.setxattr(
            path, "user.bytes", b"\0\xff"
        )
    answers = [sorted(os.listxattr("f")), os.getxattr("f", "user.bytes"), os.getxattr("d", "user.empty")]
    os.setxattr("f", "user.one", b"replaced"), os.removexattr("f", "user.empty")
    os.link("f", "g")
    fd = os.open("f", os.O_RDONLY)
    return answers, os.getxattr("g", "user.one"), os.getxattr(fd, "user.one"), sorted(os.listxattr(fd))


@case
def attributes_of_other_kinds():
    write("f"), os.symlink("f", "s"), os.mkfifo("p"), os.symlink("nowhere", "dangling")
    answers = [
        tries(os.setxattr, "s", "user.x", b"1", follow_symlinks=False),
        tries(os.getxattr, "s", "user.x", follow_symlinks=False),
    ]
    answers += [tries(os.setxattr, "p", "user.x", b"1"), tries(os.getxattr, "p", "user.x"), tries(os.listxattr, "p")]
    answers += [
        tries(os.setxattr, "dangling", "user.x", b"1"),
        tries(os.setxattr, "s", "user.x", b"1"),
        os.listxattr("f"),
    ]
    path = os.open("f", os.O_PATH)
    return answers, tries(os.listxattr, path), tries(os.getxattr, f"/proc/self/fd/{path}", "user.x")


@case
def creating_and_replacing_attributes():
    write("f")
    answers = [
        tries(os.setxattr, "f", "user.x", b"1", os.XATTR_REPLACE),
        tries(os.setxattr, "f", "user.x", b"1", os.XATTR_CREATE),
        tries(os.setxattr, "f", "user.x", b"2", os.XATTR_CREATE),
        tries(os.setxattr, "f", "user.x", b"3", os.XATTR_REPLACE),
        tries(os.setxattr, "f", "user.x", b"4", 3),
        tries(os.setxattr, "f", "user.y", b"4", 3),
        tries(os.setxattr, "f", "user.x", b"5", 4),
    ]
    return (
        answers,
        tries(os.removexattr, "f", "user.y"),
        tries(os.getxattr, "f", "user.y"),
        os.getxattr("f", "user.x"),
    )


@case
def sizes_of_attributes():
    import ctypes

    write("f")
    os.setxattr("f", "user.x", b"v" * 100)
    get = lambda size: tries(libc, "getxattr", "f", "user.x", ctypes.create_string_buffer(size or 1), size)
    names = lambda size: tries(libc, "listxattr", "f", ctypes.create_string_buffer(size or 1), size)
    answers = [get(size) for size in (0, 99, 100, 101, 70_000)] + [names(size) for size in (0, 6, 7, 8)]
    return answers, tries(os.setxattr, "f", "user.y", b"v" * 65537), tries(os.setxattr, "f", "user.z", b"v" * 3000)


@case
def large_attributes():
    write("f")
    return tries(os.setxattr, "f", "user.large", b"v" * 65536), tries(lambda: len(os.getxattr("f", "user.large")))


@case
def names_of_attributes():
    write("f")
    names = [
        "user.",
        "user",
        "user.x",
        "User.x",
        "",
        ".",
        "foo.bar",
        "system.x",
        "system.",
        "trusted.",
        "user.\xff",
        "user." + "n" * 250,
        "user." + "n" * 251,
        "n" * 255,
        "n" * 256,
        "os2.x",
        "btrfs.x",
        "security",
        "user.a/b",
        "user. ",
    ]
    answers = []
    for name in names:
        answers.append(
            (
                name[:12],
                tries(os.getxattr, "f", name),
                tries(os.setxattr, "f", name, b"v"),
                tries(os.removexattr, "f", name),
            )
        )
    return answers, os.listxattr("f")


@case
def trusted_attributes_are_not_for_containers():
    write("f")
    return [
        tries(os.setxattr, "f", "trusted.x", b"1"),
        tries(os.getxattr, "f", "trusted.x"),
        tries(os.removexattr, "f", "trusted.x"),
        os.listxattr("f"),
    ]


@case
def security_attributes():
    write("f")
    return [
        tries(os.setxattr, "f", "security.x", b"1"),
        tries(os.getxattr, "f", "security.x"),
        tries(os.removexattr, "f", "security.x"),
        tries(os.setxattr, "f", "security.", b"1"),
        tries(os.getxattr, "f", "security."),
    ]


CAPABLE = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw+ep, version 2


@case
def capabilities_of_files():
    write("f", mode=0o755), os.mkdir("d")
    answers = [
        tries(os.setxattr, "f", "security.capability", CAPABLE),
        os.getxattr("f", "security.capability") == CAPABLE,
    ]
    answers += [
        tries(os.setxattr, "f", "security.capability", value) for value in (b"", b"x", CAPABLE[:-1], b"\0" * 20)
    ]
    answers += [tries(os.setxattr, "d", "security.capability", CAPABLE), os.listxattr("f")]
    answers += [tries(os.removexattr, "f", "security.capability"), tries(os.getxattr, "f", "security.capability")]
    version_3 = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 0)
    answers += [
        tries(os.setxattr, "f", "security.capability", version_3),
        tries(os.getxattr, "f", "security.capability") == CAPABLE,
    ]
    return answers


@case(ids=True)
def capabilities_want_the_privilege():
    write("f", owner=(ALICE, ALICE))
    return child(lambda: tries(os.setxattr, "f", "security.capability", CAPABLE), ALICE), child(
        lambda: tries(os.getxattr, "f", "security.capability"), ALICE
    )


@case(ids=True)
def who_may_change_attributes():
    write("f", mode=0o644, owner=(ALICE, ALICE)), write("w", mode=0o666, owner=(ALICE, ALICE)), write("s", mode=0o600)
    os.setxattr("f", "user.x", b"1"), os.setxattr("s", "user.x", b"1")
    os.mkdir("sticky"), os.chmod("sticky", 0o1777)
    reads = lambda: [
        tries(os.setxattr, "f", "user.y", b"2"),
        tries(os.getxattr, "f", "user.x"),
        tries(os.setxattr, "w", "user.y", b"2"),
        tries(os.getxattr, "s", "user.x"),
        tries(os.listxattr, "s"),
        tries(os.removexattr, "f", "user.x"),
        tries(os.setxattr, "sticky", "user.x", b"1"),
    ]
    return child(reads, BOB), child(reads, ALICE)


# --- access control lists ---


@case
def access_lists_and_modes_follow_each_other():
    write("f", mode=0o640)
    answers = [
        listed("f"),
        tries(os.setxattr, "f", ACCESS, FOR_ALICE.replace(struct.pack("<I", ALICE), struct.pack("<I", 0))),
        mode("f"),
        listed("f"),
    ]
    os.chmod("f", 0o711)
    answers += [listed("f"), mode("f")]
    answers += [tries(os.setxattr, "f", ACCESS, MINIMAL), mode("f"), listed("f"), os.listxattr("f")]
    answers += [tries(os.removexattr, "f", ACCESS), tries(os.removexattr, "f", ACCESS), mode("f")]
    return answers


@case
def access_lists_of_other_kinds_and_removals():
    write("f", mode=0o640), os.mkdir("d", 0o755), os.symlink("f", "s"), os.mkfifo("p", 0o600)
    value = acl((USER_OBJ, 6), (USER, 4, 0), (GROUP_OBJ, 4), (MASK, 4), (OTHER, 0))
    answers = [tries(os.setxattr, "f", DEFAULT, value), tries(os.setxattr, "s", ACCESS, value, follow_symlinks=False)]
    answers += [tries(os.setxattr, "p", ACCESS, value), mode("p"), tries(os.setxattr, "d", DEFAULT, value), mode("d")]
    answers += [
        sorted(os.listxattr("d")),
        tries(os.removexattr, "d", DEFAULT),
        tries(os.removexattr, "d", DEFAULT),
        tries(os.removexattr, "f", DEFAULT),
    ]
    answers += [
        tries(os.getxattr, "f", DEFAULT),
        tries(os.getxattr, "d", DEFAULT),
        tries(os.removexattr, "f", ACCESS),
        tries(os.getxattr, "f", ACCESS),
    ]
    answers += [
        tries(os.setxattr, "f", ACCESS, value, os.XATTR_REPLACE),
        tries(os.setxattr, "f", ACCESS, value, os.XATTR_CREATE),
    ]
    answers += [tries(os.setxattr, "f", ACCESS, value, os.XATTR_CREATE)]
    os.removexattr("f", ACCESS)
    return (
        answers,
        mode("f"),
        tries(os.setxattr, "d", DEFAULT, b""),
        tries(os.setxattr, "d", DEFAULT, struct.pack("<I", 2)),
        os.listxattr("d"),
    )


@case
def access_lists_that_are_none():
    write("f", mode=0o640)
    bad = [
        b"",
        b"\2\0\0\0",
        b"\1\0\0\0",
        MINIMAL[:-1],
        acl((USER_OBJ, 6), (OTHER, 0)),
        acl((USER_OBJ, 6), (USER, 4, 0), (GROUP_OBJ, 4), (OTHER, 0)),
        acl((USER_OBJ, 6), (GROUP_OBJ, 4), (GROUP_OBJ, 4), (OTHER, 0)),
        acl((OTHER, 6), (GROUP_OBJ, 4), (USER_OBJ, 0)),
        acl((USER_OBJ, 8), (GROUP_OBJ, 4), (OTHER, 0)),
        acl((USER_OBJ, 6), (99, 4), (GROUP_OBJ, 4), (OTHER, 0)),
        acl((USER_OBJ, 6), (USER, 4, 0), (USER, 4, 0), (GROUP_OBJ, 4), (MASK, 4), (OTHER, 0)),
    ]
    return [
        (number, tries(os.setxattr, "f", ACCESS, value), mode("f"), listed("f")) for number, value in enumerate(bad)
    ]


@case(ids=True)
def access_lists_give_and_take():
    write("f", b"text", mode=0o640)
    reach = lambda: [tries(lambda: os.close(os.open("f", flags))) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)]
    answers = [child(reach, ALICE)]
    os.setxattr("f", ACCESS, FOR_ALICE)
    answers += [child(reach, ALICE), child(reach, BOB)]
    os.chmod("f", 0o640)
    answers += [child(reach, ALICE)]
    os.setxattr(
        "f", ACCESS, acl((USER_OBJ, 6), (USER, 0, ALICE), (GROUP_OBJ, 4), (GROUP, 6, CLUB), (MASK, 6), (OTHER, 6))
    )
    return answers + [
        child(reach, ALICE),
        child(reach, BOB),
        child(reach, ALICE, groups=[CLUB]),
        child(reach, BOB, groups=[CLUB]),
        listed("f"),
    ]


@case(ids=True)
def access_lists_change_at_once_for_others():
    write("f", mode=0o600)
    reach = lambda: tries(lambda: os.close(os.open("f", os.O_RDONLY)))
    answers = [child(reach, ALICE)]
    for value in (FOR_ALICE, MINIMAL, FOR_ALICE):
        os.setxattr("f", ACCESS, value)
        answers.append(child(reach, ALICE))
    os.removexattr("f", ACCESS)
    return answers + [child(reach, ALICE)]


def inheriting(default, umask):
    os.umask(umask)
    os.mkdir("d")
    os.setxattr("d", DEFAULT, default)
    os.mkdir("d/dir", 0o777), os.close(os.open("d/file", os.O_CREAT, 0o666)), os.close(
        os.open("d/private", os.O_CREAT, 0o600)
    )
    os.mkfifo("d/fifo", 0o666), os.symlink("file", "d/link"), os.mknod("d/node", 0o100777)
    fd = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o666)
    give_name(fd, "d/temporary")
    told = [(name, mode(f"d/{name}"), listed(f"d/{name}")) for name in sorted(os.listdir("d")) if name != "link"]
    return told, listed("d/dir", DEFAULT), listed("d/file", DEFAULT), mode("d/link")


@case
def what_is_made_inherits_the_default_list():
    return inheriting(acl((USER_OBJ, 7), (USER, 6, 0), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 5)), 0o077)


@case
def a_default_list_of_permissions_alone():
    return inheriting(acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 1)), 0o077)


@case
def a_default_list_and_setgid():
    os.mkdir("d"), os.chmod("d", 0o2775)
    os.setxattr("d", DEFAULT, acl((USER_OBJ, 7), (USER, 7, 0), (GROUP_OBJ, 7), (MASK, 5), (OTHER, 0)))
    os.mkdir("d/e", 0o777)
    return mode("d"), mode("d/e"), listed("d/e"), listed("d/e", DEFAULT)


@case(ids=True)
def who_may_set_access_lists():
    write("f", mode=0o666, owner=(ALICE, ALICE))
    change = lambda: [
        tries(os.setxattr, "f", ACCESS, FOR_ALICE),
        tries(os.removexattr, "f", ACCESS),
        tries(os.getxattr, "f", ACCESS),
    ]
    return child(change, BOB), child(change, ALICE), look("f")


@case(ids=True)
def an_access_list_takes_setgid_from_who_is_not_in_the_group():
    answers = []
    for number, groups in enumerate([[], [CLUB]]):
        path = write(f"f{number}", mode=0o2755, owner=(ALICE, CLUB))
        answers += [child(lambda: tries(os.setxattr, path, ACCESS, FOR_ALICE), ALICE, groups=groups), look(path)]
    return answers


@case(ids=True)
def access_lists_with_ids_that_are_not_mapped():
    write("f")
    value = acl((USER_OBJ, 6), (USER, 4, 4_000_000_000), (GROUP_OBJ, 4), (MASK, 4), (OTHER, 0))
    return tries(os.setxattr, "f", ACCESS, value), mode("f")
