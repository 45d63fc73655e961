"""Runs one piece of work in a tree, six times, and prints the seconds: the inner side of the fs benches.

The second time is not yet warm: reading outdates access times, and whoever looks asks for them once.

Runs on the image's own Python, in a Bryo container and in a chroot on the kernel's overlayfs alike.
"""

import json
import statistics
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
    for _ in range(6):
        start = time.perf_counter()
        done = subprocess.run(["bash", "-c", WORK[sys.argv[1]]], stdout=subprocess.PIPE, check=True, text=True)
        seconds.append(time.perf_counter() - start)
        counts.add(int(done.stdout))
    print(json.dumps({"cold": seconds[0], "second": seconds[1], "warm": statistics.median(seconds[2:]), "count": min(counts)}))


main()
