#!/usr/bin/env python3
"""The same work by Bryo and by its peers, in alternating turns; prints medians, ratios and the limits they must keep.

Started by scripts/bench.sh, as root; all measured work runs as the ordinary user bryo-range. A machine shared with
others makes absolute times worthless, so every row is a ratio of medians of one run.
"""

import argparse
import itertools
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import build
import crowd
import files
import growth
import life
import network
from tools import (
    BASE,
    HERE,
    IMAGES,
    STAY,
    USER,
    Command,
    Tools,
    account,
    alternate,
    bryo_processes,
    bryo_with,
    clean,
    crun_bundle,
    end_pause,
    failures,
    memory,
    row,
    running,
    sh,
)

def bench_start(tools):
    bryo, podman, image = tools.bryo, tools.podman, tools.image("debian:12")
    crun, number = crun_bundle(podman, image), itertools.count()

    def start(name):
        return bryo("run", "--rm", "--network", "host", name, "true").seconds

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
    with running(bryo("run", "--rm", "--network", "host", image, *loop)):
        with running(podman("run", "--rm", "--network", "host", image, *loop)):
            rows("one running")

    store = sh(f"find {BASE}/bryo/root -printf '%p %s %T@ %C@\n' | sort")

    def at_once():
        before = store.run()
        with account() as spent:
            everyone = [bryo("run", "--rm", "--network", "host", image, "true").start() for _ in range(16)]
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


def bench_memory(tools):
    image = tools.image("software")
    with account() as spent, running(
        tools.bryo("run", "--rm", "--network", "host", image, "sh", "-c", f"find / -xdev | wc -l; {STAY}")
    ) as files:
        if int(files) < 40_000:
            sys.exit(f"find saw {files} files only")
        count = len(list(bryo_processes(tools.binary)))
        total = memory(tools.binary)
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


BENCHES = {"start": bench_start, "build": build.bench_build, "pull": bench_pull, "fs": files.bench_reads, "write": files.bench_writes, "cpu": files.bench_cpu, "memory": bench_memory, "crowd": crowd.bench_crowd, "store": bench_store, "growth": growth.bench_growth, "life": life.bench_life, "network": network.bench_network}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=[*BENCHES, "all"])
    parser.add_argument("--bryo", type=pathlib.Path, required=True)
    parser.add_argument("--growth", type=pathlib.Path, required=True)
    parser.add_argument("--carry", type=pathlib.Path)
    parser.add_argument("--registry", required=True)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    # Pulling takes a minute, which who measures again and again may spare.
    keep = bool(os.environ.get("BRYO_BENCH_KEEP"))
    if not keep:
        clean()
    (BASE / "bin").mkdir(parents=True, exist_ok=True)
    shutil.chown(BASE, USER, USER)
    shutil.copy(options.bryo, BASE / "bin/bryo")
    print(f"{'':50} {'bryo':>9} {'peer':>9}")
    # The network alone needs no images.
    tools = options if options.what == "network" else Tools(options)
    for name, bench in BENCHES.items():
        if options.what in (name, "all"):
            bench(tools)
    end_pause() if keep else clean()
    if failures:
        sys.exit(f"missed: {', '.join(dict.fromkeys(failures))}")


if __name__ == "__main__":
    main()
