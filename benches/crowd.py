"""Many at once: client processes in one container, and containers of one image.

Two cores show that clients do not get into each other's way, not that more cores would help: for that, see "Many clients at once" in
fuse-overlay/ARCHITECTURE.md.
"""

import contextlib
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from tools import STAY, alternate, drop_caches, memory, row, running

CLIENTS, CONTAINERS = (2, 8, 16), 16
# What each thread of the kernel's futex(2) waits with: FUTEX_WAIT and FUTEX_WAIT_BITSET, of this process.
WAITS = "op==128||op==137"

# A fixed amount of work, shared out among $1 client processes; prints seconds.
SHARED = r"""import os, shutil, subprocess, sys, time
count, work = int(sys.argv[1]), sys.argv[2]
scripts = {
    "own": "import os\nos.mkdir(f'/srv/{n}'); os.chdir(f'/srv/{n}')",
    "one": "import os\nos.chdir('/srv')",
    "read": "import os",
}
# Each file is made, written, looked up, read, renamed and removed.
files = '''
for i in range({first}, {last}):
    with open(f"{{i}}.new", "w") as file: file.write("x" * 100)
    os.rename(f"{{i}}.new", f"{{i}}")
    with open(f"{{i}}") as file: file.read()
    os.stat(f"{{i}}"); os.unlink(f"{{i}}")
'''
read = '''
for path in open("/srv/list").read().split("\\n")[{first}::{count}]:
    with open(path, "rb") as file: file.read()
'''
shutil.rmtree("/srv", ignore_errors=True); os.mkdir("/srv")
if work == "read":
    found = sorted(f"{at}/{name}" for at, _, names in os.walk("/usr/lib/python3") for name in names)
    with open("/srv/list", "w") as list_of_them: list_of_them.write("\n".join(found))
total = 4800
clients = []
begin = time.perf_counter()
for n in range(count):
    body = read.format(first=n, count=count) if work == "read" else files.format(first=total * n // count, last=total * (n + 1) // count)
    clients.append(subprocess.Popen([sys.executable, "-S", "-E", "-c", scripts[work].replace("{n}", str(n)) + body]))
if any([client.wait() for client in clients]): sys.exit("a client failed")
print(time.perf_counter() - begin)
"""


class Counter:
    """Counts a tracepoint of one process, or of all, while it is entered."""

    def __init__(self, event, *of):
        self.event, self.of = event, of

    def __enter__(self):
        self.file = tempfile.NamedTemporaryFile()
        self.perf = subprocess.Popen(["perf", "stat", "-x,", "-o", self.file.name, "-e", self.event, *self.of])
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        self.perf.send_signal(signal.SIGINT)
        self.perf.wait()
        found = re.search(rf"^(\d+),,{self.event}", pathlib.Path(self.file.name).read_text(), re.M)
        self.count = int(found[1]) if found else sys.exit(f"perf does not count {self.event}")


def container(tools, image, name):
    """One that stays."""
    return tools.bryo("run", "--rm", "--name", name, "--network", "host", image, "sh", "-c", f"echo up; {STAY}")


def bench_clients(tools, image):
    name = "bench-clients"
    with running(container(tools, image, name)):
        server = tools.bryo("inspect", "--format", "{{.State.FilesystemPid}}", name).run().strip()

        def shared(work, count, cold=False):
            def seconds():
                if cold:
                    drop_caches()
                return float(tools.bryo("exec", name, "python3", "-c", SHARED, count, work).run())

            return seconds

        titles = {"own": "in directories of their own", "one": "in one directory", "read": "reading, caches dropped"}
        for work, title in titles.items():
            cold = work == "read"
            found = alternate(max(3, tools.rounds // 3), **{str(n): shared(work, n, cold) for n in (1, *CLIENTS)})
            for count in CLIENTS:
                row(f"{count} clients {title}", found[str(count)], found["1"], "one client", 1.0)
            for count in (1, *CLIENTS):
                waits = Counter("syscalls:sys_enter_futex", "--filter", WAITS, "-p", server)
                messages = Counter("fuse:fuse_request_send", "-a")
                with waits, messages:
                    shared(work, count, cold)()
                share = 1000 * waits.count / messages.count
                print(f"  {count} clients {title}: {messages.count} messages, {share:.1f} waits of the server's threads for each other in 1,000")


def cached():
    return int(re.search(r"^Cached: +(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)[1]) * 1024


def bench_containers(tools, image):
    def numbered(number):
        return container(tools, image, f"bench-{number}")

    def read_by(number):
        """Reads some of the image in one container; gives how many bytes there are, each file's in whole pages."""
        script = """find /usr/lib/python3 /usr/share -xdev -type f -print0 | xargs -0 cat > /dev/null
            find /usr/lib/python3 /usr/share -xdev -type f -printf '%s\\n' | awk '{ pages += int(($1 + 4095) / 4096) } END { print pages * 4096 }'"""
        return int(tools.bryo("exec", f"bench-{number}", "sh", "-c", script).run())

    with contextlib.ExitStack() as all_of_them:
        all_of_them.enter_context(running(numbered(0)))
        row("memory of 1 container", memory(tools.binary), 100e6, "the limit", 1.0, "MB")
        for number in range(1, CONTAINERS):
            all_of_them.enter_context(running(numbered(number)))
        row(f"memory of {CONTAINERS} containers", memory(tools.binary), 100e6, "the limit", 1.0, "MB")
        drop_caches()
        before = cached()
        for number in range(CONTAINERS):
            size = read_by(number)
            if number in (0, CONTAINERS - 1):
                # Each container's mount has pages of its own; the tars' are there once for all.
                row(f"page cache, {number + 1} containers read {size >> 20} MB", cached() - before, (number + 2) * size, "1 + N times these", 1.1, "MB")


def bench_crowd(tools):
    image = tools.image("software")
    bench_clients(tools, image)
    bench_containers(tools, image)
