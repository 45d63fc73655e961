"""Containers that live on: exec, stop, logs, ps."""

import subprocess
import sys
import time

from tools import BASE, STAY, alternate, bryo_with, row, sh

LOG, LINE, MANY = 1_000_000_000, "x" * 99, 1000


def bench_life(tools):
    bryo, podman, image = tools.bryo, tools.podman, tools.image("debian:12")
    network = {tool: ("--network", "host") for tool in (bryo, podman)}
    for tool in (bryo, podman):
        tool("run", "-d", "--name", "bench", *network[tool], image, "sh", "-c", STAY).run()
    found = alternate(
        tools.rounds, bryo=bryo("exec", "bench", "true").seconds, podman=podman("exec", "bench", "true").seconds
    )
    row("exec … true", found["bryo"], found["podman"], "podman exec", 1 / 10)

    def stop(tool):
        def timed():
            tool("start", "bench").run()
            # Its shell has set its trap when it has started what it waits for.
            sh('until "$@" exec bench sh -c "ls /proc/*/exe" 2> /dev/null | grep -q "/proc/2/"; do :; done', **tool.variables)(
                "sh", *tool.argv
            ).run()
            return tool("stop", "bench").seconds()

        return timed

    found = alternate(max(3, tools.rounds // 3), bryo=stop(bryo), podman=stop(podman))
    row("stop of a container whose init obeys", found["bryo"], 0.050, "the limit", 1.0)
    row("stop of a container whose init obeys", found["bryo"], found["podman"], "podman stop", 1.0)
    for tool in (bryo, podman):
        tool("rm", "-f", "bench").run()

    def wall(command):
        """Output goes nowhere: a reader in Python would be the slowest of all."""
        begin = time.perf_counter()
        if command.start(stdout=subprocess.DEVNULL).wait():
            sys.exit(f"{' '.join(command.argv)} failed")
        return time.perf_counter() - begin

    def once(tool, *flags):
        def timed():
            sh('"$@" rm -f bench > /dev/null 2>&1 || true', **tool.variables)("sh", *tool.argv).run()
            script = f"yes {LINE} | head -c {LOG}"
            return wall(tool("run", "--name", "bench", *network[tool], *flags, image, "sh", "-c", script))

        return timed

    found = alternate(1, bryo=once(bryo), none=once(bryo, "--log-driver", "none"), podman=once(podman))
    row("writing 1 GB of lines", found["bryo"], LOG / 300e6, "300 MB/s", 1.0, "s")
    row("writing 1 GB of lines", found["bryo"], found["none"], "no log", 3.0, "s")
    row("writing 1 GB of lines", found["bryo"], found["podman"], "podman", 1.0, "s")
    once(bryo)()

    def read(tool):
        return lambda: wall(tool("logs", "bench"))

    found = alternate(1, bryo=read(bryo), podman=read(podman))
    row("logs of 1 GB", found["bryo"], LOG / 500e6, "500 MB/s", 1.0, "s")
    row("logs of 1 GB", found["bryo"], found["podman"], "podman logs", 1.0, "s")
    for tool in (bryo, podman):
        tool("rm", "-f", "bench").run()

    many = bryo_with(tools.binary, "life")
    many("pull", "-q", tools.name("busybox")).run()
    sh(f'for n in $(seq {MANY}); do "$@" > /dev/null; done', **many.variables)(
        "sh", *many("create", tools.name("busybox"), "true").argv
    ).run()
    found = alternate(tools.rounds, bryo=many("ps", "-a").seconds)
    row(f"ps -a, with {MANY:,} containers", found["bryo"], 0.050, "the limit", 1.0)
    sh(f"rm -rf {BASE}/life").run()
