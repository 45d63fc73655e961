"""Runs one piece of work in a tree, first and again, and prints the seconds: the inner side of the fs benches.

Runs on the image's own Python, in a Bryo container and in a chroot on the kernel's overlayfs alike.
"""

import json
import subprocess
import sys
import time

# Each prints one number, by which both sides show that they did the same.
WORK = {
    "find": "find / -xdev | wc -l",
    "find with stat": "find / -xdev -printf '%s %T@ %p\\n' | wc -l",
    "tar of /usr": "tar -C /usr -cf - . | wc -c",
    "import numpy, scipy": "python3 -c 'import numpy, scipy.linalg, scipy.optimize; print(1)'",
    "git status": "git -C /srv/repo -c core.trustctime=false -c core.checkStat=minimal status --porcelain | wc -l",
}


def main():
    seconds, counts = [], set()
    for _ in range(2):
        start = time.perf_counter()
        done = subprocess.run(["bash", "-c", WORK[sys.argv[1]]], stdout=subprocess.PIPE, check=True, text=True)
        seconds.append(time.perf_counter() - start)
        counts.add(int(done.stdout))
    print(json.dumps({"first": seconds[0], "warm": seconds[1], "count": min(counts)}))


main()
