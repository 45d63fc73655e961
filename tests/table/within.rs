//! What happens in containers: exec, top, events.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const EXEC: &[Line] = &[
    (
        "run -d --stop-timeout 0 --name xx -e A=1 -w /tmp @ sleep 1000",
        Same,
    ),
    ("exec xx sh:echo out; echo err >&2; exit 3", Same),
    ("exec xx pwd", Same),
    ("exec -w /etc xx pwd", Same),
    ("exec -w /not/there xx pwd", Same),
    ("exec -e A=2 -e B=3 xx sh:echo $A $B", Same),
    ("exec xx sh:echo $A $HOME $PATH", Same),
    ("exec -u 1:2 xx sh:id -u; id -g", Same),
    ("exec -u nobody xx id -un", Same),
    ("exec -u nosuch xx true", Refused),
    ("$ echo in | t exec -i xx cat", Same),
    ("$ echo in | t exec xx cat", Same),
    ("exec xx nothere", Same),
    ("exec xx /etc/passwd", Same),
    ("exec xx ''", Refused),
    ("exec xx", Refused),
    ("exec nosuch true", Refused),
    ("exec xx sh:kill -9 $$", Same),
    ("exec xx sh:kill -15 $$", Same),
    // podman prints the id of a session, which Docker has only in its API.
    ("exec -d xx touch /made", Differing((0, ""), (0, "ID\n"))),
    (
        "exec xx sh:while [ ! -e /made ]; do sleep 0.1; done; echo there",
        Same,
    ),
    // As without -d.
    ("exec -d xx nothere", Differing((127, "!\n"), (125, "!\n"))),
    ("exec --privileged xx true", Same),
    (
        "exec xx sh:grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status",
        Same,
    ),
    (
        "exec -u 1 xx sh:grep -E 'CapEff|CapPrm|CapBnd' /proc/self/status",
        Same,
    ),
    ("exec -t xx sh:test -t 1 && echo terminal", Same),
    ("exec xx sh:test -t 1 || echo none", Same),
    (
        "$ printf 'C=4\\n' > env; t exec --env-file env xx sh -c 'echo $C'",
        Same,
    ),
    ("container exec xx echo grouped", Same),
    // Processes.
    // podman's top wants a cgroup, and there is none here.
    ("$ t top xx | wc -l", Differing((0, "2\n"), (125, "0\n!\n"))),
    // podman's top wants a cgroup, and there is none here.
    (
        "$ t top xx | head -1",
        Differing(
            (
                0,
                "UID       PID       PPID      C         STIME     TTY       TIME       CMD\n",
            ),
            (125, "!\n"),
        ),
    ),
    // podman's top wants a cgroup, and there is none here.
    (
        "$ t top xx -o pid,comm | head -1",
        Differing((0, "PID       COMMAND\n"), (125, "!\n")),
    ),
    // podman's top wants a cgroup, and there is none here.
    (
        "$ t top xx -eo comm",
        Differing((0, "COMMAND\nsleep\n"), (125, "!\n")),
    ),
    ("top nosuch", Refused),
    ("top", Refused),
    ("rm -f xx", Same),
    ("exec xx true", Refused),
];

const EVENTS: &[Line] = &[
    ("run --name ee -l k=v @ sh:exit 3", Same),
    ("start ee", Same),
    ("wait ee", Same),
    ("rename ee ff", Same),
    ("rm ff", Same),
    ("run -d --stop-timeout 0 --name gg @ sleep 1000", Same),
    ("exec gg true", Same),
    ("kill gg", Same),
    ("wait gg", Same),
    ("rm gg", Same),
    // Docker's words: podman has no destroy but remove, died for die, and that of a command at times twice.
    (
        "$ t events --since 1h --stream=false --filter container=gg --format '{{.Status}}' | uniq",
        Differing(
            (
                0,
                "create\nstart\nexec_create: true\nexec_start: true\nexec_die\nkill\ndie\ndestroy\n",
            ),
            (
                0,
                "create\ninit\nstart\nexec\nexec_died\nkill\ndied\ncleanup\nremove\n",
            ),
        ),
    ),
    (
        "$ t events --since 1h --stream=false --filter event=create --filter type=container --format '{{.Type}} {{.Status}}'",
        Same,
    ),
    // podman's word is died.
    (
        "$ t events --since 1h --stream=false --filter event=die --filter type=container --format '{{.Status}}'",
        Differing((0, "die\ndie\ndie\n"), (0, "")),
    ),
    // podman's word is died.
    (
        "$ t events --since 1h --stream=false --filter event=died --filter type=container --format '{{.Status}}'",
        Differing((0, ""), (0, "died\ndied\ndied\n")),
    ),
    (
        "$ t events --since 1h --stream=false --filter type=container --filter label=k=v --filter event=create --format '{{.Status}}'",
        Same,
    ),
    ("events --since 1h --stream=false --filter container=nosuch", Same),
];

#[test]
fn exec() {
    compare("FROM base\n", EXEC);
}

#[test]
fn events() {
    compare("FROM base\n", EVENTS);
}
