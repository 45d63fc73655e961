//! What is done with containers that live on, and with all there is: pause, update, stats, units; what it takes, and what goes.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const LIVING: &[Line] = &[
    ("run -d --stop-timeout 0 --name up @ sleep 1000", Same),
    ("create --name made @ true", Same),
    // Nobody gave the tests a cgroup.
    ("pause up", Refused),
    ("unpause up", Refused),
    ("pause made", Refused),
    ("unpause made", Refused),
    ("pause nosuch", Refused),
    ("unpause nosuch", Refused),
    ("pause", Refused),
    ("unpause", Refused),
    ("inspect --format {{.State.Paused}} up", Same),
    // podman's are those of cgroups alone.
    (
        "stats --no-stream --format '{{.Name}} {{.PIDs}}' up",
        Differing((0, "up 1\n"), (125, "!\n")),
    ),
    ("stats --no-stream nosuch", Refused),
    ("stats --no-stream --format '{{.Nonsense}}' up", Refused),
    (
        "$ t stats --no-stream up | sed -n 1p | tr -s ' '",
        Differing(
            (
                0,
                "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS\n",
            ),
            (125, "!\n"),
        ),
    ),
    // podman 4.3 changes no policies.
    (
        "update --restart always made",
        Differing((0, "made\n"), (125, "!\n")),
    ),
    (
        "inspect --format '{{.HostConfig.RestartPolicy.Name}}' made",
        Differing((0, "always\n"), (0, "\n")),
    ),
    ("update --restart nonsense made", Same),
    ("update --memory nonsense made", Same),
    ("update --cpus 1 nosuch", Refused),
    ("update", Refused),
    ("update --restart no made", Differing((0, "made\n"), (125, "!\n"))),
    ("kill -s RTMIN+3 nosuch", Refused),
    ("kill -s RTMIN+99 up", Refused),
    ("kill -s 99 up", Refused),
    ("kill -s CLD up", Same),
    ("run --rm --stop-signal RTMIN+31 @ true", Same),
    ("create --name real --stop-signal RTMIN+3 @ true", Same),
    ("rm real", Same),
    // Units.
    ("generate systemd nosuch", Same),
    ("generate systemd", Refused),
    ("generate systemd --restart-policy often made", Same),
    (
        "$ t generate systemd --name made | grep -E '^(Wants|After|Restart|WantedBy)='",
        Same,
    ),
    // podman has a line for each flag.
    (
        "$ t generate systemd --name --new made | grep -cE '^ExecStart=.* run .*--rm '",
        Differing((0, "1\n"), (1, "0\n")),
    ),
    (
        "$ t generate systemd --name --container-prefix c --separator _ made | grep -c '^Description=.* c_made.service$'",
        Same,
    ),
    // podman 4.3 leaves RestartSec out, and its own comment in.
    (
        "$ t generate systemd --name --restart-sec 3 --start-timeout 4 -t 5 made | grep -E '^(RestartSec|TimeoutStartSec)='",
        Differing(
            (0, "RestartSec=3\nTimeoutStartSec=4\n"),
            (0, "TimeoutStartSec=4\n"),
        ),
    ),
    (
        "$ t generate systemd --no-header --name made | sed -n 1p",
        Differing((0, "[Unit]\n"), (0, "# container-made.service\n")),
    ),
    (
        "$ t generate systemd --name --wants a.service --after b.service --requires c.service made | grep -E '[abc][.]service'",
        Same,
    ),
    (
        "$ t generate systemd --files --name made | grep -c /container-made.service",
        Same,
    ),
    ("$ t rm -f up made | sort", Same),
];

const GONE: &[Line] = &[
    ("create --name one -l keep=no @ true", Same),
    ("run --name two @ true", Same),
    ("run -d --stop-timeout 0 --name up @ sleep 1000", Same),
    ("$ t system df | sed -n 1p | tr -s ' '", Same),
    // podman keeps no cache of builds.
    (
        "$ t system df --format '{{.Type}}' | sort",
        Differing(
            (0, "Build Cache\nContainers\nImages\nLocal Volumes\n"),
            (0, "Containers\nImages\nLocal Volumes\n"),
        ),
    ),
    (
        "$ t system df | grep -v -e Build -e TYPE | tr -s ' ' | cut -d ' ' -f 1-3",
        Same,
    ),
    ("system df --format '{{.Nonsense}}'", Refused),
    ("$ t system df -v | grep -c 'space usage'", Same),
    ("system df extra", Refused),
    ("container prune -f --filter nonsense=1", Refused),
    // Docker tells what it is about, and what was won.
    (
        "container prune -f --filter label=keep=yes",
        Differing((0, "Total reclaimed space: 0B\n"), (0, "")),
    ),
    (
        "$ t container prune -f --filter label=keep | sed 's/space: .*/space/'",
        Differing(
            (0, "Deleted Containers:\nID\n\nTotal reclaimed space\n"),
            (0, "ID\n"),
        ),
    ),
    ("$ t ps -a --format {{.Names}} | sort", Same),
    (
        "$ t container prune -f | sed 's/space: .*/space/'",
        Differing(
            (0, "Deleted Containers:\nID\n\nTotal reclaimed space\n"),
            (0, "ID\n"),
        ),
    ),
    ("$ t ps -a --format {{.Names}} | sort", Same),
    ("create --name three @ true", Same),
    ("volume create data", Same),
    ("system prune -f --filter nonsense=1", Refused),
    // podman keeps no cache of builds.
    (
        "$ t system prune -f | sed 's/space: .*/space/'",
        Differing(
            (
                0,
                "Deleted Containers:\nID\n\nDeleted build cache objects:\nID-ID\n\nTotal reclaimed space\n",
            ),
            (0, "Deleted Containers\nID\nTotal reclaimed space\n"),
        ),
    ),
    (
        "$ t ps -a --format {{.Names}}; t volume ls -q; t images -q | wc -l",
        Same,
    ),
    ("rm -f up", Same),
    // Docker, since 23: volumes that nobody named.
    (
        "$ t system prune -af --volumes | sed 's/space: .*/space/'",
        Differing(
            (
                0,
                "Deleted Images:\nuntagged: localhost/made:latest\ndeleted: sha256:ID\ndeleted: sha256:ID\n\nTotal reclaimed space\n",
            ),
            (
                0,
                "Deleted Volumes\ndata\nDeleted Images\nID\nTotal reclaimed space\n",
            ),
        ),
    ),
    (
        "$ t volume ls -q; t images -q | wc -l",
        Differing((0, "data\n0\n"), (0, "0\n")),
    ),
    ("volume rm -f data", Differing((0, "data\n"), (0, ""))),
    ("system prune extra", Refused),
];

#[test]
fn living() {
    compare("FROM base\n", LIVING);
}

#[test]
fn gone() {
    compare("FROM base\n", GONE);
}
