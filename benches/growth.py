"""Do costs stay what they are when there is more? The library alone, by its example `growth`: files below and in the writable
layer, layers, and files that come and go. Each row sets a size beside the smallest."""

import json
import shutil

from tools import BASE, USER, Command, row, sh

# (files below, layers, files above), and the number that names each.
SHAPES = {
    "files below": [(size, (size, 1, 0)) for size in (10_000, 100_000, 1_000_000)],
    "layers": [(layers, (100_000, layers, 0)) for layers in (1, 32, 127)],
    "files above": [(size, (10_000, 1, size)) for size in (10_000, 100_000, 1_000_000)],
}
OPERATIONS = ("lookup below", "create", "unlink")
ROUNDS = 3


def growth(program, *arguments):
    return json.loads(Command(program)(*arguments).run())


def measured(program, place, shape):
    """The best of some rounds, each on a fresh copy of the writable layer: what else the machine does only adds."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.chown(place, USER, USER)
    growth(program, place, "make", *shape)
    sh('mv "$0/upper" "$0/kept"')(place).run()
    best = {}
    for _ in range(ROUNDS):
        sh('rm -rf "$0/upper"; cp -r "$0/kept" "$0/upper"')(place).run()
        for name, value in growth(program, place, "measure").items():
            best[name] = min(value, best.get(name, value))
    return best


def bench_growth(tools):
    program, place = BASE / "growth", BASE / "growing"
    shutil.copy(tools.growth, program)
    for what, shapes in SHAPES.items():
        found = [(size, measured(program, place, shape)) for size, shape in shapes]
        smallest, least = found[0]
        for size, more in found[1:]:
            row(f"open, {size:,} {what}", more["open"], least["open"], f"{smallest:,}", 1.2)
            for name in OPERATIONS:
                row(f"{name}, {size:,} {what}", more[name], least[name], f"{smallest:,}", 1.3, "µs")
            if what == "files above":
                row(f"memory per file, {size:,} {what}", more["memory of the open layer"] / size, 200, "200 bytes", 1.0, "B")
    # Where memory that was free before has no part in it.
    row("memory per touched file of the image", least["memory of a touched inode"], 200, "200 bytes", 1.0, "B")
    # Of the largest. The journal may have grown since its last checkpoint; the data takes what the files take that stay.
    data = (place / "kept/data").stat().st_blocks * 512
    many = growth(program, place, "churn", 200)
    row("journal after 200 rounds of churn", many["journal"], many["checkpoint"], "its checkpoint", 3.5, "MB")
    row("data after 200 rounds of churn", many["data"], data, "before", 1.05, "MB")
    row("longest operation during checkpoints", many["longest"], 0.050, "the limit", 1.0)
    shutil.rmtree(place)
