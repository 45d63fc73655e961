"""What every bench uses: how work is started and timed, the tools with their stores, accounts of CPU time."""

import contextlib
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
    ratio, scale = ours / peer, {"µs": 1e6, "ms": 1000, "s": 1, "MB": 1e-6, "B": 1}[unit]
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
def in_cgroup(controller, name):
    """This process, and what it starts meanwhile, in a cgroup of its own: gives its directory, and whether it is of v1."""
    is_v1 = (CGROUPS / controller).is_dir()
    hierarchy = CGROUPS / controller if is_v1 else CGROUPS
    # Where we were before: a path below the hierarchy's root.
    own = re.search(rf"^\d+:(?:[^:\n]*\b{controller}\b[^:\n]*):(.*)$" if is_v1 else r"^0::(.*)$", pathlib.Path("/proc/self/cgroup").read_text(), re.M)
    group = hierarchy / name
    group.mkdir(exist_ok=True)
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield group, is_v1
    finally:
        (hierarchy / own[1].lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        with contextlib.suppress(OSError):  # what is still ending keeps it, empty soon
            group.rmdir()


@contextlib.contextmanager
def account():
    """A CPU account for whole process trees: `with account() as spent: …; spent()` gives seconds."""
    with in_cgroup("cpuacct", "bryo-bench") as (group, is_v1):

        def used():
            if is_v1:
                return int((group / "cpuacct.usage").read_text()) / 1e9
            # Every v2 cgroup has the times in cpu.stat, whatever controllers are on.
            return int(re.search(r"^usage_usec (\d+)", (group / "cpu.stat").read_text(), re.M)[1]) / 1e6

        start = used()
        yield lambda: used() - start


def bryo_processes(binary):
    """The directories in /proc of all processes of this binary."""
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(path / "exe") == str(binary):
                yield path


def memory(binary):
    """Of all processes of Bryo together, shared memory counted once, without page cache; in bytes."""
    total = 0
    for process in bryo_processes(binary):
        # Whoever has ended meanwhile has no memory.
        with contextlib.suppress(OSError):
            fields = dict(re.findall(r"^(\w+): +(\d+) kB", (process / "smaps_rollup").read_text(), re.M))
            total += (int(fields["Pss_Anon"]) + int(fields["Pss_Shmem"])) * 1024
    return total


class Tools:
    """What every bench uses: both tools with their stores, and the registry's images."""

    def __init__(self, options):
        self.binary, self.rounds, self.registry = BASE / "bin/bryo", options.rounds, options.registry
        self.growth, self.carry = options.growth, options.carry
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


def end_pause():
    """podman leaves a process that holds its user namespace."""
    with contextlib.suppress(OSError, ValueError):
        pause = int((BASE / "xdg/libpod/tmp/pause.pid").read_text())
        if pathlib.Path(f"/proc/{pause}").owner() == USER:
            os.kill(pause, signal.SIGKILL)


def clean():
    """podman's files belong to subordinate ids, so root removes them."""
    end_pause()
    shutil.rmtree(BASE, ignore_errors=True)
