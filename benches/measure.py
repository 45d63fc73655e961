#!/usr/bin/env python3
"""The same work by Bryo and by its peers, in alternating turns; prints medians, ratios and the limits they must keep.

Started by scripts/bench.sh, as root; all measured work runs as the ordinary user bryo-range. A machine shared with
others makes absolute times worthless, so every row is a ratio of medians of one run.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
USER = "bryo-range"
BASE = pathlib.Path("/var/tmp/bryo-bench")
IMAGES = pathlib.Path(os.environ.get("BRYO_TEST_IMAGES", "/var/cache/bryo-tests"))
STAY = "trap exit TERM; sleep 1000 & wait"  # a first process ends by a signal only if it wants to
CGROUPS = pathlib.Path("/sys/fs/cgroup")
failures = []


# --- how work is started and timed ---


class Command:
    """A program of the user's with its first arguments and its own variables; called, it takes more arguments."""

    def __init__(self, *argv, **variables):
        self.argv, self.variables = list(map(str, argv)), variables

    def __call__(self, *more):
        return Command(*self.argv, *more, **self.variables)

    def start(self, **options):
        """Starts it as the user, directly: a wrapper's time would blur the ratios."""
        environment = {"HOME": f"/home/{USER}", "USER": USER, "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        environment |= {"TMPDIR": str(BASE), **{name: str(value) for name, value in self.variables.items()}}
        return subprocess.Popen(self.argv, user=USER, group=USER, extra_groups=[], env=environment, cwd=BASE, **options)

    def run(self):
        """Runs it, expects success, gives standard output."""
        process = self.start(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, error = process.communicate()
        if process.returncode != 0:
            sys.exit(f"{' '.join(self.argv)}\nended with {process.returncode}: {error[-2000:]}")
        return out

    def seconds(self):
        begin = time.perf_counter()
        self.run()
        return time.perf_counter() - begin


def sh(script, **variables):
    return Command("sh", "-ec", script, **variables)


def alternate(rounds, **work):
    """Each piece of work once a round, in turns, after one round unmeasured; gives the median of each."""
    for piece in work.values():
        piece()
    times = {name: [] for name in work}
    for _ in range(rounds):
        for name, piece in work.items():
            times[name].append(piece())
    return {name: statistics.median(values) for name, values in times.items()}


def row(name, ours, peer, peer_name, limit, unit="ms"):
    """Prints one comparison; a ratio above its limit is a failure at the end."""
    ratio, scale = ours / peer, {"ms": 1000, "s": 1, "MB": 1e-6}[unit]
    verdict = "ok" if ratio <= limit else "MISSED"
    if ratio > limit:
        failures.append(name)
    shown = f"{ours * scale:9.1f} {peer * scale:9.1f} {unit:3} {peer_name:22}"
    print(f"{name:50} {shown} {ratio:7.3f}  ≤ {limit:.3f}  {verdict}", flush=True)


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


# --- the tools ---


def bryo_with(binary, store):
    """Bryo with a store of its own."""
    return Command(binary, **{f"BRYO_{what.upper()}": BASE / store / what for what in ("root", "state", "run")})


def rootless_podman():
    """Podman over the kernel's overlayfs, its fastest driver."""
    (BASE / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
    (BASE / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    sh(f"mkdir -p -m 700 {BASE}/xdg").run()
    return Command(
        *("podman", "--log-level", "error"),
        XDG_RUNTIME_DIR=BASE / "xdg",
        XDG_DATA_HOME=BASE / "podman",  # where a rootless podman keeps images, whatever `graphroot` says
        CONTAINERS_STORAGE_CONF=BASE / "storage.conf",
        CONTAINERS_CONF=BASE / "containers.conf",
    )


def crun_bundle(podman, image):
    """A ready bundle: unpacked tree, and a config with the id map, network and namespaces of a Bryo container."""
    bundle = BASE / "bundle"
    sh(f"mkdir -p {bundle}/rootfs").run()
    container = podman("create", "--network", "host", image, "true").run().strip()
    podman("unshare", "sh", "-c", f'tar -C "$(podman mount {container})" -c . | tar -C {bundle}/rootfs -x').run()
    podman("rm", container).run()
    sh(f"cd {bundle} && rm -f config.json && crun spec --rootless").run()
    config = json.loads((bundle / "config.json").read_text())
    config["process"].update(terminal=False, args=["true"])
    config["linux"]["namespaces"] = [{"type": name} for name in ("pid", "ipc", "uts", "mount", "cgroup", "user")]
    for kind, path in (("uid", "/etc/subuid"), ("gid", "/etc/subgid")):
        first, size = re.search(rf"^{USER}:(\d+):(\d+)", pathlib.Path(path).read_text(), re.M).groups()
        own = int(subprocess.check_output(["id", f"-{kind[0]}", USER]))
        config["linux"][f"{kind}Mappings"] = [
            {"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": int(first), "size": int(size)},
        ]
    (bundle / "config.json").write_text(json.dumps(config))
    return Command("crun", "--cgroup-manager=disabled", "run", "--bundle", bundle, XDG_RUNTIME_DIR=BASE / "xdg")


@contextlib.contextmanager
def running(command):
    """Something that keeps running meanwhile; it has said a line."""
    process = command.start(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = process.stdout.readline()
    if not said:
        sys.exit(f"{' '.join(command.argv)} did not start")
    try:
        yield said.strip()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def account():
    """A CPU account for whole process trees: `with account() as spent: …; spent()` gives seconds."""
    is_v1 = (CGROUPS / "cpuacct").is_dir()
    hierarchy = CGROUPS / "cpuacct" if is_v1 else CGROUPS
    # Where we were before: a path below the hierarchy's root.
    own = re.search(r"^\d+:(?:[^:\n]*\bcpuacct\b[^:\n]*):(.*)$" if is_v1 else r"^0::(.*)$", pathlib.Path("/proc/self/cgroup").read_text(), re.M)
    group = hierarchy / "bryo-bench"
    group.mkdir(exist_ok=True)
    (group / "cgroup.procs").write_text(str(os.getpid()))

    def used():
        if is_v1:
            return int((group / "cpuacct.usage").read_text()) / 1e9
        # Every v2 cgroup has the times in cpu.stat, whatever controllers are on.
        return int(re.search(r"^usage_usec (\d+)", (group / "cpu.stat").read_text(), re.M)[1]) / 1e6

    start = used()
    try:
        yield lambda: used() - start
    finally:
        (hierarchy / own[1].lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))


# --- the benches ---


def bench_start(tools):
    bryo, podman, image = tools.bryo, tools.podman, tools.image("debian:12")
    crun, number = crun_bundle(podman, image), itertools.count()

    def start(name):
        return bryo("run", "--rm", name, "true").seconds

    def rows(when):
        found = alternate(
            tools.rounds,
            bryo=start(image),
            podman=podman("run", "--rm", "--network", "host", image, "true").seconds,
            crun=lambda: crun(f"bench-{next(number)}").seconds(),
        )
        row(f"run --rm debian true, {when}", found["bryo"], found["podman"], "podman run", 1 / 12)
        row(f"run --rm debian true, {when}", found["bryo"], found["crun"], "crun, ready bundle", 1.2)

    rows("none running")
    loop = ["sh", "-c", f"echo up; {STAY}"]
    with running(bryo("run", "--rm", image, *loop)):
        with running(podman("run", "--rm", "--network", "host", image, *loop)):
            rows("one running")

    store = sh(f"find {BASE}/bryo/root -printf '%p %s %T@ %C@\n' | sort")

    def at_once():
        before = store.run()
        with account() as spent:
            everyone = [bryo("run", "--rm", image, "true").start() for _ in range(16)]
            if any([process.wait() for process in everyone]):
                sys.exit("one of 16 starts at once failed")
            used = spent()
        if store.run() != before:
            sys.exit("a start wrote into the image store")
        return used

    def one_by_one():
        with account() as spent:
            for _ in range(16):
                start(image)()
            return spent()

    found = alternate(max(3, tools.rounds // 3), together=at_once, single=one_by_one)
    row("16 at once, CPU seconds", found["together"], found["single"], "16 one by one", 1.2)

    found = alternate(tools.rounds, few=start(tools.image("few")), many=start(tools.image("many")))
    row("run --rm … true, 1,000,000 files", found["many"], found["few"], "1,000 files", 1.2)


def bench_pull(tools):
    name, peaks = tools.name("software"), []

    def ours():
        sh(f"rm -rf {BASE}/pull").run()
        begin = time.perf_counter()
        process = bryo_with(tools.binary, "pull")("pull", "-q", name).start(stdout=subprocess.DEVNULL)
        _, process.returncode, usage = os.wait4(process.pid, 0)
        if process.returncode != 0:
            sys.exit(f"bryo pull {name} failed")
        peaks.append(usage.ru_maxrss * 1024)
        return time.perf_counter() - begin

    def theirs():
        sh('podman image exists "$0" && podman rmi -f "$0" || true', **tools.podman.variables)(name).run()
        return tools.podman("pull", "-q", "--tls-verify=false", name).seconds()

    found = alternate(max(3, tools.rounds // 3), bryo=ours, podman=theirs)
    sh(f"rm -rf {BASE}/pull").run()
    row("pull of 1.3 GB in 4 layers", found["bryo"], found["podman"], "podman pull", 1 / 4, "s")
    row("peak memory of that pull", statistics.median(peaks), 100e6, "the limit", 1.0, "MB")


FS_WORK = ("find", "find with stat", "tar of /usr", "import numpy, scipy", "git status")
# The first time after caches were dropped, the next, and the median of four more.
FS_KINDS = ("cold", "second", "warm")

# podman's unpacked layers, mounted by the kernel in a user namespace of the same id map, with a fresh writable layer.
OVERLAY = f"""
    image=$0 work=$1; podman image mount "$image" > /dev/null
    lower=$(podman image inspect -f '{{{{.GraphDriver.Data.UpperDir}}}}:{{{{.GraphDriver.Data.LowerDir}}}}' "$image")
    dir=$(mktemp -d {BASE}/overlay.XXXXXX); mkdir $dir/upper $dir/work $dir/merged
    cat > $dir/inside <<INSIDE
        set -e
        mount -t overlay overlay -o 'lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work' $dir/merged
        mount --rbind /proc $dir/merged/proc; mount --rbind /dev $dir/merged/dev
        mount --bind {BASE}/bench $dir/merged/mnt
        exec chroot $dir/merged /usr/bin/python3 /mnt/inside.py "$work"
INSIDE
    unshare -m sh $dir/inside; rm -rf $dir
"""


def bench_fs(tools):
    image = tools.image("software")
    (BASE / "bench").mkdir()
    shutil.copy(HERE / "inside.py", BASE / "bench")
    sides = {
        "bryo": tools.bryo("run", "--rm", "-v", f"{BASE}/bench:/mnt:ro", image, "python3", "/mnt/inside.py"),
        "overlay": tools.podman("unshare", "sh", "-ec", OVERLAY, image),
    }
    for work in FS_WORK:
        times, counts = {(name, kind): [] for name in sides for kind in FS_KINDS}, {}
        for _ in range(tools.rounds):
            for name, side in sides.items():
                drop_caches()
                found = json.loads(side(work).run())
                for kind in FS_KINDS:
                    times[name, kind].append(found[kind])
                counts[name] = found["count"]
        # The work was the same, but for what each side mounts over the tree.
        if abs(counts["bryo"] - counts["overlay"]) > (20 if "find" in work else 0):
            sys.exit(f"{work}: not the same work: {counts}")
        for kind in FS_KINDS:
            medians = [statistics.median(times[name, kind]) for name in sides]
            row(f"{work}, {kind}", *medians, "kernel overlayfs", 1.0)


def bryo_processes(binary):
    """The directories in /proc of all processes of this binary."""
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(path / "exe") == str(binary):
                yield path


def bench_memory(tools):
    image = tools.image("software")
    with account() as spent, running(
        tools.bryo("run", "--rm", image, "sh", "-c", f"find / -xdev | wc -l; {STAY}")
    ) as files:
        if int(files) < 40_000:
            sys.exit(f"find saw {files} files only")
        total, count = 0, 0
        for process in bryo_processes(tools.binary):
            fields = dict(re.findall(r"^(\w+): +(\d+) kB", (process / "smaps_rollup").read_text(), re.M))
            total += (int(fields["Pss_Anon"]) + int(fields["Pss_Shmem"])) * 1024
            count += 1
        row(f"memory of a container ({count} processes), after find /", total, 40e6, "the limit", 1.0, "MB")
        time.sleep(2)
        before = spent()
        time.sleep(10)
        row("CPU of an idle container in 10 s", spent() - before, 0.010, "10 ms, the noise", 1.0)


def bench_store(tools):
    # 1,000 images that differ in their config, as an OCI layout.
    layout, many = BASE / "thousand", bryo_with(tools.binary, "thousand-store")
    subprocess.run([sys.executable, HERE / "thousand.py", IMAGES / "busybox.oci", layout], check=True)
    sh('for n in $(seq 1000); do "$0" pull -q "$1:n$n" > /dev/null; done', **many.variables)(*many.argv, f"oci:{layout}").run()
    if len(many("images", "-q").run().split()) != 1000:
        sys.exit("there are not 1,000 images to list")
    found = alternate(tools.rounds, bryo=many("images").seconds, nothing=Command("true").seconds)
    row("images, with 1,000 of them, less the time of true", found["bryo"] - found["nothing"], 0.050, "the limit", 1.0)

    name, files = tools.image("software"), BASE / "same-size"
    fresh, pull = bryo_with(tools.binary, "rmi"), ("pull", "-q", "--tls-verify=false", name)
    bryo_with(tools.binary, "rmi-peer")("pull", "-q", name).run()

    def ours():
        fresh("pull", "-q", name).run()
        os.sync()
        return fresh("rmi", name).seconds()

    def plain():
        # Just this image's layers: the store that the other benches share holds more.
        sh(f"rm -rf {files}; mkdir {files}; cp --reflink=never {BASE}/rmi-peer/root/layers/*.tar {files}").run()
        os.sync()
        return Command("rm", "-r", files).seconds()

    def theirs():
        tools.podman(*pull).run()
        os.sync()
        return tools.podman("rmi", "-f", name).seconds()

    found = alternate(3, bryo=ours, rm=plain, podman=theirs)
    row("rmi of 1.3 GB", found["bryo"], found["rm"], "rm of files that size", 1.2)
    row("rmi of 1.3 GB", found["bryo"], found["podman"], "podman rmi", 1 / 5)


class Tools:
    """What every bench uses: both tools with their stores, and the registry's images."""

    def __init__(self, options):
        self.binary, self.rounds, self.registry = BASE / "bin/bryo", options.rounds, options.registry
        self.bryo, self.podman, self.pulled = bryo_with(self.binary, "bryo"), rootless_podman(), set()

    def name(self, image):
        return f"{self.registry}/{image}"

    def image(self, image):
        """The full name of an image that Bryo has, and podman too unless only Bryo is measured with it."""
        name = self.name(image)
        if name not in self.pulled:
            self.bryo("pull", "-q", name).run()
            if image not in ("few", "many"):
                self.podman("pull", "-q", "--tls-verify=false", name).run()
            self.pulled.add(name)
        return name


BENCHES = {"start": bench_start, "pull": bench_pull, "fs": bench_fs, "memory": bench_memory, "store": bench_store}


def clean():
    """podman's files belong to subordinate ids, so root removes them."""
    shutil.rmtree(BASE, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=[*BENCHES, "all"])
    parser.add_argument("--bryo", type=pathlib.Path, required=True)
    parser.add_argument("--registry", required=True)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    clean()
    (BASE / "bin").mkdir(parents=True)
    shutil.chown(BASE, USER, USER)
    shutil.copy(options.bryo, BASE / "bin/bryo")
    print(f"{'':50} {'bryo':>9} {'peer':>9}")
    tools = Tools(options)
    for name, bench in BENCHES.items():
        if options.what in (name, "all"):
            bench(tools)
    clean()
    if failures:
        sys.exit(f"missed: {', '.join(dict.fromkeys(failures))}")


if __name__ == "__main__":
    main()
