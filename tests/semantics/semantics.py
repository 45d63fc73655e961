"""Asks a filesystem many small questions, and prints one line `name: answer` for each.

    python3 -B semantics.py DIRECTORY [own-tree] [one-id] [names=20000] [only=PART-OF-A-NAME]

Each case runs as root, in a process and an empty directory of its own, and says nothing that two right filesystems could
answer differently: relations instead of inode numbers, what moved instead of times. `own-tree`: the directory lies in the
container's own tree, whose programs may be moved into it. `one-id`: the user namespace has no other id, so the cases that
need several are named and left out.
"""

import os
import shutil
import signal
import sys

import kit
import data  # noqa: F401  the cases put themselves into kit.CASES
import events  # noqa: F401
import image  # noqa: F401
import locks  # noqa: F401
import memory  # noqa: F401
import names  # noqa: F401
import owners  # noqa: F401
import programs  # noqa: F401
import space  # noqa: F401
import status  # noqa: F401
import times  # noqa: F401
import xattrs  # noqa: F401

PATIENCE = 20  # seconds for a case; nothing is measured by it


def main():
    if open("/proc/self/uid_map").read().split() == ["0", "0", "4294967295"]:
        sys.exit("to be run in a container: the cases act as root and move programs")
    base = os.path.abspath(sys.argv[1])
    one_id = "one-id" in sys.argv[2:]
    kit.OWN_TREE = "own-tree" in sys.argv[2:]
    settings = dict(word.split("=", 1) for word in sys.argv[2:] if "=" in word)
    names.MANY = int(settings.get("names", names.MANY))
    os.umask(0o022)
    os.makedirs(base)
    os.chmod(base, 0o755)
    for case in kit.CASES:
        if settings.get("only", "") not in case.name:
            continue
        if case.ids and one_id:
            print(f"{case.name}: left out: needs several ids", flush=True)
            continue
        directory = f"{base}/{case.name}"
        os.mkdir(directory)
        print(f"{case.name}: {answer(case, directory)}", flush=True)
    # Owners that only this namespace knows could not be removed from outside.
    shutil.rmtree(base)


def answer(case, directory):
    def run():
        signal.alarm(PATIENCE)
        os.chdir(directory)
        kit.HERE = directory
        return case.run()

    return kit.child(run)


main()
