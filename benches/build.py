"""Builds by Bryo beside those by podman (`build --layers`, kernel overlayfs), of the same Dockerfiles."""

import itertools
import pathlib
import shutil

from tools import BASE, USER, alternate, row, sh

RUNS, FILES = 30, 50_000


def write(directory, dockerfile):
    """A context with nothing but its Dockerfile."""
    path = BASE / directory
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    (path / "Dockerfile").write_text(dockerfile)
    shutil.chown(path, USER, USER)
    return path


def bench_build(tools):
    base = tools.image("debian:12")
    podman = tools.podman("build", "--layers", "--network", "host", "--tls-verify=false", "-q")
    bryo = tools.bryo("build", "-q")

    context = write("runs", f"FROM {base}\n" + "RUN true\n" * RUNS)
    rounds = max(3, tools.rounds // 3)
    # Each RUN of its own: podman takes a layer that it made a moment ago even without its cache.
    found = alternate(
        rounds,
        bryo=bryo("--no-cache", context).seconds,
        podman=podman("--no-cache", context).seconds,
    )
    row(f"{RUNS} × RUN true, without cache", found["bryo"], found["podman"], "podman build", 1 / 10, "s")
    found = alternate(rounds, bryo=bryo(context).seconds, podman=podman(context).seconds)
    row("the same again, all from the cache", found["bryo"], found["podman"], "podman build", 1 / 20)
    row("the same again, all from the cache", found["bryo"], 0.1, "the limit", 1.0)

    # Each has something else to do, so that neither is in the cache of the other.
    stages = "".join(f"FROM {base} AS s{n}\nRUN sleep 5 && echo {n} > /made\n" for n in range(2))
    context = write("stages", f"{stages}FROM {base}\nCOPY --from=s0 /made /0\nCOPY --from=s1 /made /1\n")
    found = alternate(1, two=bryo("--no-cache", context).seconds)
    row("two stages of 5 s each", found["two"], 5.0, "one of them", 1.2, "s")

    context = write("files", f"FROM {base}\nCOPY tree /tree\n")
    sh(f"""mkdir {context}/tree; cd {context}/tree; head -c 20k /dev/urandom > seed
        for d in $(seq 500); do mkdir $d; for f in $(seq {FILES // 500}); do cat seed > $d/$f; done; done""").run()
    number = itertools.count()

    def changed(build):
        def timed():
            (pathlib.Path(context) / "tree/1/1").write_text(f"{next(number)}")
            return build(context).seconds()

        return timed

    found = alternate(
        max(1, tools.rounds // 9), bryo=bryo("--no-cache", context).seconds, podman=podman("--no-cache", context).seconds
    )
    row(f"COPY of {FILES:,} files, 1 GB", found["bryo"], found["podman"], "podman build", 1 / 5, "s")
    found = alternate(rounds, same=bryo(context).seconds, changed=changed(bryo))
    row("the same again, nothing changed", found["same"], 0.5, "the limit", 1.0)
    row("the same again, one file changed", found["changed"], 1.5, "the limit", 1.0)
    shutil.rmtree(context)
