"""Does one row of rows.py in a tree, the same in a Bryo container and in a chroot on a peer's: the benches' inner side.

inside.py ROW [check]: sets the work up, prints "ready", waits for a line, works, prints times in seconds as JSON.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import time

from rows import ROWS


def bash(script):
    done = subprocess.run(["bash", "-ec", script], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{script}\nended with {done.returncode}: {(done.stdout + done.stderr).decode(errors='replace')[-2000:]}")
    return done.stdout


def timed(row):
    start = time.perf_counter()
    said = bash(row.command)
    return time.perf_counter() - start, said


def main():
    row = next(row for row in ROWS if row.name == sys.argv[1])
    bash(row.setup)
    print("ready", flush=True)
    sys.stdin.readline()
    if row.reads:
        # The second time is not yet warm: reading outdates access times, and whoever looks asks for them once.
        seconds, said = zip(*[timed(row) for _ in range(6)])
        times = {"cold": seconds[0], "second": seconds[1], "warm": statistics.median(seconds[2:])}
        count = min(map(int, said))
    else:
        times, count = {"": timed(row)[0]}, 0
    tree = hashlib.sha256(bash(row.check)).hexdigest() if sys.argv[2:] == ["check"] else ""
    print(json.dumps({"times": times, "count": count, "tree": tree}), flush=True)


main()
