//! What cannot be: names that several have, states that do not fit.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const TABLE: &[Line] = &[
    // Of seventeen ids two begin with the same digit.
    (
        "$ for i in $(seq 17); do t create @ true; done | cut -c 1 | sort | uniq -d | head -1 > twice; t inspect --format x $(cat twice)",
        Refused,
    ),
    ("$ t rm $(cat twice)", Refused),
    ("$ t start $(cat twice)", Refused),
    ("$ t rm $(t ps -aq) | wc -l", Same),
    ("nonsense", Refused),
    ("container nonsense", Refused),
    ("ps --nonsense", Same),
    ("stop -t nonsense x", Same),
    ("run -d --stop-timeout 0 --name up @ sleep 1000", Same),
    ("$ t cp up:/etc/hostname", Refused),
    // Docker always tells what was won.
    (
        "container prune -f",
        Differing((0, "Total reclaimed space: 0B\n"), (0, "")),
    ),
    ("ps -a --format {{.Names}}", Same),
    ("rm -f up", Same),
    ("run -e =x --rm @ true", Same),
    ("run -l '' --rm @ true", Same),
    ("run --rm -v relative/path:/x @ true", Same),
    ("run --rm -v /x:relative @ true", Same),
    ("run --rm --tmpfs relative @ true", Same),
    ("run --rm --mount type=nonsense,dst=/x @ true", Same),
    ("run --rm --network nosuch localhost/made true", Same),
    ("run --rm --network container:nosuch localhost/made true", Same),
    ("run --rm -p nonsense localhost/made true", Same),
    ("run --rm --shm-size nonsense @ true", Same),
    ("run --rm --stop-timeout nonsense @ true", Same),
    ("ps -aq", Same),
];

#[test]
fn refused() {
    compare("FROM base\n", TABLE);
}
