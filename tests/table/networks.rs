//! Networks of the user's own. What travels on them is not asked here: podman's need programs that the machine may not have.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const TABLE: &[Line] = &[
    // Docker prints the id, podman the name.
    ("network create own", Differing((0, "ID\n"), (0, "own\n"))),
    ("network create own", Refused),
    ("network create 'a b'", Refused),
    ("network create --subnet nonsense bad", Refused),
    ("network create --driver nonsense bad", Refused),
    // Docker prints the id, podman the name.
    (
        "network create --label k=v --label only --internal inner",
        Differing((0, "ID\n"), (0, "inner\n")),
    ),
    (
        "network create --subnet 10.91.0.0/24 --gateway 10.91.0.7 --ip-range 10.91.0.128/25 placed",
        Differing((0, "ID\n"), (0, "placed\n")),
    ),
    ("network create --subnet 10.91.0.0/25 overlaps", Refused),
    (
        "network create --subnet 10.92.0.0/24 --gateway 10.93.0.1 outside",
        Refused,
    ),
    ("$ t network ls --format {{.Name}} --filter name=own", Same),
    ("$ t network ls --format {{.Name}} --filter label=k=v", Same),
    ("$ t network ls --format {{.Name}} --filter label=only", Same),
    ("$ t network ls --format {{.Name}} --filter label=k=x", Same),
    (
        "$ t network ls --format '{{.Name}} {{.Driver}}' --filter name=inner",
        Same,
    ),
    // podman has names for ids here, and no scope.
    (
        "$ t network ls -q --filter name=own | wc -c",
        Differing((0, "13\n"), (0, "4\n")),
    ),
    (
        "$ t network ls --no-trunc -q --filter name=own | wc -c",
        Differing((0, "65\n"), (0, "4\n")),
    ),
    (
        "$ t network ls | sed -n 1p | tr -s ' '",
        Differing(
            (0, "NETWORK ID NAME DRIVER SCOPE\n"),
            (0, "NETWORK ID NAME DRIVER\n"),
        ),
    ),
    (
        "$ [ $(t network inspect --format {{.Id}} own) = $(t network ls --no-trunc -q --filter name=own) ]",
        Differing((0, ""), (1, "")),
    ),
    ("network ls --filter nonsense=1", Refused),
    ("network ls extra", Refused),
    (
        "network inspect --format '{{.Name}} {{.Driver}} {{.Internal}}' own inner",
        Same,
    ),
    ("network inspect --format '{{json .Labels}}' inner", Same),
    (
        "network inspect nosuch",
        Differing((1, "[]\n!\n"), (125, "[]\n!\n")),
    ),
    ("network inspect", Refused),
    // A container that does not run.
    ("create --name one --network own localhost/made:latest true", Same),
    ("network connect inner one", Same),
    // podman leaves it at that.
    ("network connect inner one", Differing((1, "!\n"), (0, ""))),
    ("network connect nosuch one", Refused),
    ("network connect own nosuch", Refused),
    (
        "$ t inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' one",
        Same,
    ),
    ("$ t ps -a --filter network=inner --format {{.Names}}", Same),
    ("network disconnect inner one", Same),
    ("network disconnect inner one", Refused),
    ("network disconnect nosuch one", Refused),
    ("network disconnect own nosuch", Refused),
    (
        "$ t inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' one",
        Same,
    ),
    ("network rm nosuch", Refused),
    ("network rm -f nosuch", Same),
    ("network rm placed nosuch", Same),
    ("network rm", Refused),
    ("$ t network create unused | wc -l", Same),
    // Docker tells what it is about.
    (
        "network prune -f --filter label=k=v",
        Differing((0, "Deleted Networks:\ninner\n\n"), (0, "inner\n")),
    ),
    // Docker asks for containers that run, podman for all.
    (
        "network prune -f",
        Differing((0, "Deleted Networks:\nown\nunused\n\n"), (0, "unused\n")),
    ),
    ("network prune -f", Same),
    ("rm one", Same),
    (
        "$ t network rm -f own > /dev/null; t network create own | wc -l",
        Same,
    ),
    ("create --name two --network own localhost/made:latest true", Same),
    ("network rm own", Differing((0, "own\n"), (2, "!\n"))),
    ("rm two", Same),
    // podman makes up a name.
    ("network create", Differing((1, "!\n"), (0, "cni-podman2\n"))),
];

#[test]
fn networks() {
    compare("FROM base\n", TABLE);
}
