"""The rows of rows.py beside the kernel's overlayfs, and Debian's fuse-overlayfs, over the same layers unpacked.

All three run as one user, in a user namespace of the same id map, without seccomp filters; each measured command has a
fresh writable layer; they take turns.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys

from rows import ROWS
from tools import BASE, CGROUPS, HERE, drop_caches, failures, in_cgroup

# The same inside of all three.
INSIDE = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3", "/mnt/inside.py"]
LAYERS = """podman image mount "$0" > /dev/null
    podman image inspect -f '{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}' "$0" """
# podman's unpacked layers, mounted by the system $0, with a fresh writable layer.
PEER = f"""
    system=$0 lower=$1; shift
    dir=$(mktemp -d {BASE}/peer.XXXXXX); mkdir $dir/upper $dir/work $dir/merged
    options=lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work
    case $system in
        # As podman mounts it: without userxattr no directory can be made opaque, and dpkg and rmdir fail.
        overlayfs) mount -t overlay overlay -o $options,userxattr $dir/merged ;;
        fuse-overlayfs) fuse-overlayfs -o $options $dir/merged ;;
    esac
    trap "umount -l $dir/merged; rm -rf $dir" EXIT
    mount --rbind /proc $dir/merged/proc; mount --rbind /dev $dir/merged/dev
    mount --bind {BASE}/bench $dir/merged/mnt
    chroot $dir/merged "$@"
"""
SYSTEMS = ("bryo", "overlayfs", "fuse-overlayfs")


class Trees:
    """A command in a fresh tree of each system."""

    def __init__(self, tools):
        image = tools.image("bench")
        (BASE / "bench").mkdir(exist_ok=True)
        for name in ("inside.py", "rows.py"):
            shutil.copy(HERE / name, BASE / "bench")
        lower = tools.podman("unshare", "sh", "-ec", LAYERS, image).run().strip()
        peer = tools.podman("unshare", "unshare", "-m", "sh", "-ec", PEER)
        self.of = {
            "bryo": tools.bryo("run", "--rm", "-i", "--privileged", "--network", "host", "-v", f"{BASE}/bench:/mnt:ro", image, *INSIDE),
            "overlayfs": peer("overlayfs", lower, *INSIDE),
            "fuse-overlayfs": peer("fuse-overlayfs", lower, *INSIDE),
        }

    def measure(self, system, row, check):
        process = self.of[system](row.name, *(["check"] if check else [])).start(
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if process.stdout.readline() == "ready\n":
            if row.cold or row.reads:
                drop_caches()
            else:
                os.sync()
        said, error = process.communicate("go\n")
        if process.returncode != 0:
            sys.exit(f"{row.name} on {system} ended with {process.returncode}: {error[-2000:]}")
        return json.loads(said)


def compare(trees, row, rounds):
    """The medians of each kind of time and each system; all trees must be the same after the first round."""
    times = {}
    for turn in range(rounds):
        found = {}
        for system in SYSTEMS:
            found[system] = trees.measure(system, row, check=turn == 0)
            for kind, seconds in found[system]["times"].items():
                times.setdefault(kind, {}).setdefault(system, []).append(seconds)
        counts = [one["count"] for one in found.values()]
        # What each side mounts over the tree is not the same.
        if max(counts) - min(counts) > (20 if row.name.startswith("find") else 0):
            sys.exit(f"{row.name}: not the same work: {counts}")
        if len({one["tree"] for one in found.values()}) > 1:
            sys.exit(f"{row.name}: the trees differ: { {name: one['tree'] for name, one in found.items()} }")
    return {kind: {system: statistics.median(values) for system, values in of.items()} for kind, of in times.items()}


class Table:
    """Prints a line per comparison as it is made, and what they say together."""

    def __init__(self):
        self.ratios, self.behind = {}, []
        print(f"{'':48} {'bryo':>9} {'overlayfs':>9} {'fuse-ovl':>9}    {'of ovl':>7} {'of f-ovl':>8}")

    def add(self, name, of):
        bryo, overlay, fuse = (of[system] for system in SYSTEMS)
        ratio = bryo / overlay
        self.ratios[name] = ratio
        verdict = "ok" if ratio <= 1 else "slower" if ratio <= 2 else "MISSED"
        if bryo > fuse:
            self.behind.append(name)
            verdict += ", behind fuse-overlayfs"
        shown = " ".join(f"{seconds * 1000:9.1f}" for seconds in (bryo, overlay, fuse))
        print(f"{name:48} {shown} ms {ratio:7.3f} {bryo / fuse:8.3f}  {verdict}", flush=True)

    def summary(self):
        mean = statistics.geometric_mean(self.ratios.values())
        above = lambda limit: [name for name, ratio in self.ratios.items() if ratio > limit]
        print(f"\n{len(self.ratios)} rows; geometric mean of the ratios to kernel overlayfs {mean:.3f} (to be ≤ 1.0)")
        print(f"above 1.0: {len(above(1))}; above 2.0: {len(above(2))}: {', '.join(above(2)) or 'none'}")
        print(f"behind fuse-overlayfs: {len(self.behind)}: {', '.join(self.behind) or 'none'}\n", flush=True)
        failures.extend(above(2) + self.behind + (["geometric mean"] if mean > 1 else []))


def bench(tools, rows):
    rows = [row for row in rows if re.search(os.environ.get("BRYO_BENCH_ROWS", ""), row.name)]
    trees, table = Trees(tools), Table()
    for row in rows:
        for kind, of in compare(trees, row, tools.rounds).items():
            table.add(f"{row.name}, {kind}" if kind else row.name, of)
    table.summary()


def bench_reads(tools):
    bench(tools, [row for row in ROWS if row.reads])


def bench_writes(tools):
    bench(tools, [row for row in ROWS if not row.reads])


@contextlib.contextmanager
def half_a_cpu():
    """This process, and what it starts meanwhile, may use half of one CPU."""
    with in_cgroup("cpu", "bryo-bench-quota") as (group, is_v1):
        if is_v1:
            (group / "cpu.cfs_quota_us").write_text("50000")
        else:
            (CGROUPS / "cgroup.subtree_control").write_text("+cpu")
            (group / "cpu.max").write_text("50000 100000")
        yield


@contextlib.contextmanager
def busy_cpus():
    """Every CPU has somebody else's work to do as well."""
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def bench_cpu(tools):
    """Polling must not eat what a limited or busy machine has."""
    trees, table = Trees(tools), Table()
    chosen = [row for row in ROWS if row.name in ("create 5,000 files", "unlink 5,000 files", "find with stat")]
    for row, (label, state) in itertools.product(chosen, (("half a CPU", half_a_cpu), ("busy CPUs", busy_cpus))):
        with state():
            for kind, of in compare(trees, row, max(1, tools.rounds // 3)).items():
                table.add(f"{row.name}, {kind + ', ' if kind else ''}{label}", of)
    table.summary()
