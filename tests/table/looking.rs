//! What is seen of containers: ps, inspect, logs.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const SCENE: &[Line] = &[
    (
        "create --name aa -l k=v -l only --label n=1 @ sh:echo hello",
        Same,
    ),
    ("run -d --stop-timeout 0 --name bb -l k=w @ sleep 1000", Same),
    ("run --name cc @ sh:exit 3", Same),
    ("run --name dd @ true", Same),
];

const PS: &[Line] = &[
    ("$ t ps -aq | wc -l", Same),
    // Docker's newest is the first.
    (
        "ps -a --format {{.Names}}",
        Differing((0, "dd\ncc\nbb\naa\n"), (0, "aa\nbb\ncc\ndd\n")),
    ),
    ("$ t ps --format {{.Names}} | sort", Same),
    (
        "$ [ $(t ps -q) = $(t inspect --format {{.Id}} bb | cut -c 1-12) ]",
        Same,
    ),
    (
        "$ [ $(t ps -q --no-trunc) = $(t inspect --format {{.Id}} bb) ]",
        Same,
    ),
    ("ps -l --format {{.Names}}", Same),
    ("$ t ps -n 2 --format {{.Names}} | sort", Same),
    ("$ t ps --last 3 --format {{.Names}} | sort", Same),
    ("$ t ps -a --filter name=aa --format {{.Names}} | sort", Same),
    ("$ t ps -a --filter name=^aa --format {{.Names}} | sort", Same),
    (
        "$ t ps -a --filter 'name=^(aa|bb)$' --format {{.Names}} | sort",
        Same,
    ),
    (
        "$ t ps -a --filter name=aa --filter name=bb --format {{.Names}} | sort",
        Same,
    ),
    ("$ t ps -a --filter label=k --format {{.Names}} | sort", Same),
    ("$ t ps -a --filter label=k=v --format {{.Names}} | sort", Same),
    (
        "$ t ps -a --filter label=k=v --filter label=only --format {{.Names}} | sort",
        Same,
    ),
    (
        "$ t ps -a --filter label=k=nothing --format {{.Names}} | sort",
        Same,
    ),
    ("$ t ps --filter status=exited --format {{.Names}} | sort", Same),
    ("$ t ps --filter status=created --format {{.Names}} | sort", Same),
    ("$ t ps --filter status=running --format {{.Names}} | sort", Same),
    ("$ t ps --filter status=paused --format {{.Names}} | sort", Same),
    ("ps --filter status=nonsense", Same),
    (
        "$ t ps -a --filter status=exited --filter status=created --format {{.Names}} | sort",
        Same,
    ),
    ("$ t ps --filter exited=3 --format {{.Names}} | sort", Same),
    ("$ t ps -a --filter exited=3 --format {{.Names}} | sort", Same),
    ("$ t ps -a --filter exited=0 --format {{.Names}} | sort", Same),
    ("$ t ps -a --filter before=cc --format {{.Names}} | sort", Same),
    ("$ t ps -a --filter since=bb --format {{.Names}} | sort", Same),
    ("ps -a --filter since=nosuch --format {{.Names}}", Refused),
    (
        "$ t ps -a --filter ancestor=localhost/made --format {{.Names}} | sort",
        Same,
    ),
    (
        "$ t ps -a --filter ancestor=localhost/made:latest --filter name=aa --format {{.Names}} | sort",
        Same,
    ),
    ("ps -a --filter ancestor=nosuch --format {{.Names}}", Same),
    (
        "$ t ps -a --filter id=$(t inspect --format {{.Id}} cc | cut -c 1-12) --format {{.Names}}",
        Same,
    ),
    // podman knows no such network, no such health.
    (
        "$ t ps -a --filter network=none --format {{.Names}} | sort",
        Differing((0, "aa\nbb\ncc\ndd\n"), (0, "")),
    ),
    // podman knows no such network, no such health.
    (
        "$ t ps -a --filter health=none --format {{.Names}} | sort",
        Differing((0, "aa\nbb\ncc\ndd\n"), (0, "")),
    ),
    ("ps -a --filter nonsense=1", Same),
    ("ps -a --filter nonsense", Same),
    // podman's commands have no quotes, and its State is the status.
    (
        "$ t ps -a --format '{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Status}}' | sort",
        Differing(
            (
                0,
                "aa|localhost/made:latest|\"sh -c 'echo hello'\"|created|Created\nbb|localhost/made:latest|\"sleep 1000\"|running|Up AGE\ncc|localhost/made:latest|\"sh -c 'exit 3'\"|exited|Exited (3) AGE\ndd|localhost/made:latest|\"true\"|exited|Exited (0) AGE\n",
            ),
            (
                0,
                "aa|localhost/made:latest|sh -c echo hello|Created|Created\nbb|localhost/made:latest|sleep 1000|Up AGE|Up AGE\ncc|localhost/made:latest|sh -c exit 3|Exited (3) AGE|Exited (3) AGE\ndd|localhost/made:latest|true|Exited (0) AGE|Exited (0) AGE\n",
            ),
        ),
    ),
    // podman's commands have no quotes.
    (
        "$ t ps -a --no-trunc --filter name=aa --format '{{.Command}}' | sort",
        Differing((0, "\"sh -c 'echo hello'\"\n"), (0, "sh -c echo hello\n")),
    ),
    // podman shows lists as Go does, and no network here.
    (
        "$ t ps -a --format '{{.ID}}|{{.RunningFor}}|{{.CreatedAt}}|{{.Ports}}|{{.Mounts}}|{{.Networks}}' | sort",
        Differing(
            (
                0,
                "ID|AGE|TIME|||none\nID|AGE|TIME|||none\nID|AGE|TIME|||none\nID|AGE|TIME|||none\n",
            ),
            (
                0,
                "ID|AGE|TIME||[]|\nID|AGE|TIME||[]|\nID|AGE|TIME||[]|\nID|AGE|TIME||[]|\n",
            ),
        ),
    ),
    // podman has no method Label, and shows maps as Go does.
    (
        "$ t ps -a --filter name=aa --format '{{.Label \"k\"}}' | sort",
        Differing((0, "v\n"), (125, "!\n")),
    ),
    // podman has no method Label, and shows maps as Go does.
    (
        "$ t ps -a --filter name=aa --format '{{.Labels}}' | sort",
        Differing(
            (0, "io.buildah.version=1.28.2,k=v,n=1,only=\n"),
            (0, "map[io.buildah.version:1.28.2 k:v n:1 only:]\n"),
        ),
    ),
    ("$ t ps -a --format '{{json .Names}}' | sort", Same),
    // podman's State is the status in words, its tables have other columns.
    (
        "ps -a --format 'table {{.Names}}\\t{{.State}}'",
        Differing(
            (
                0,
                "NAMES     STATE\ndd        exited\ncc        exited\nbb        running\naa        created\n",
            ),
            (
                0,
                "NAMES       STATE\naa          Created\nbb          Up AGE\ncc          Exited (3) AGE\ndd          Exited (0) AGE\n",
            ),
        ),
    ),
    // Docker's is an object a line.
    (
        "$ t ps -a --format json | head -c 1",
        Differing((0, "{\n"), (0, "[\n")),
    ),
    ("ps -a --format '{{.Nonsense}}'", Refused),
    ("ps -a --format '{{'", Refused),
    ("$ t ps -a | sed -n 1p | tr -s ' '", Same),
    ("$ t ps -a --size | sed -n 1p | grep -c SIZE", Same),
    // Docker: who names the size gets it.
    (
        "$ t ps -a --filter name=dd --format '{{.Size}}' | sort",
        Differing((0, "0B (virtual 2.13MB)\n"), (0, "\n")),
    ),
    ("ps extra", Refused),
    ("$ t container ls -a --format {{.Names}} | sort", Same),
    ("$ t container list --format {{.Names}} | sort", Same),
    // All of them.
    ("$ t rm -f aa bb cc dd | sort", Same),
];

const INSPECT: &[Line] = &[
    (
        "create --name full --hostname h -e A=1 -l k=v -w /tmp -u 1:2 --entrypoint sh --stop-signal INT --stop-timeout 3 --read-only --cap-add SYS_PTRACE --cap-drop CHOWN -v $PWD/sub:/sub:ro -i --restart always @ -c true",
        Same,
    ),
    // Docker's names begin with a slash.
    (
        "inspect --format '{{.Name}} {{.Path}} {{.Args}}' full",
        Differing((0, "/full sh [-c true]\n"), (0, "full sh [-c true]\n")),
    ),
    // podman's ids of images have no algorithm.
    (
        "inspect --format '{{.Id}} {{.Created}} {{.Image}}' full",
        Differing((0, "ID TIME sha256:ID\n"), (0, "ID TIME ID\n")),
    ),
    (
        "inspect --format '{{.Config.Hostname}} {{.Config.User}} {{.Config.WorkingDir}} {{.Config.Image}}' full",
        Same,
    ),
    (
        "inspect --format '{{json .Config.Cmd}} {{json .Config.Labels}}' full",
        Same,
    ),
    // podman 4's is a text, Docker's a list.
    (
        "inspect --format '{{json .Config.Entrypoint}}' full",
        Differing((0, "[\"sh\"]\n"), (0, "\"sh\"\n")),
    ),
    // With those that each adds by itself.
    (
        "$ t inspect --format '{{range .Config.Env}}{{println .}}{{end}}' full | grep -E ^[AP] | sort",
        Same,
    ),
    // podman's is a number.
    (
        "inspect --format '{{.Config.StopSignal}} {{.Config.StopTimeout}}' full",
        Differing((0, "INT 3\n"), (0, "2 3\n")),
    ),
    // podman forgets what was asked for when it was made.
    (
        "inspect --format '{{.Config.Tty}} {{.Config.OpenStdin}} {{.Config.AttachStdin}}' full",
        Differing((0, "false true true\n"), (0, "false true false\n")),
    ),
    (
        "inspect --format '{{.HostConfig.NetworkMode}} {{.HostConfig.AutoRemove}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Privileged}} {{.HostConfig.Init}}' full",
        Same,
    ),
    // podman's full names, and what it drops by itself.
    (
        "inspect --format '{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}' full",
        Differing(
            (0, "[SYS_PTRACE] [CHOWN]\n"),
            (
                0,
                "[CAP_SYS_PTRACE] [CAP_AUDIT_WRITE CAP_CHOWN CAP_MKNOD CAP_NET_RAW]\n",
            ),
        ),
    ),
    ("inspect --format '{{.HostConfig.RestartPolicy.Name}}' full", Same),
    ("inspect --format '{{.HostConfig.LogConfig.Type}}' full", Same),
    // podman's values have names of their own.
    (
        "inspect --format '{{.HostConfig.ShmSize}} {{.HostConfig.IpcMode}} {{.HostConfig.PidMode}} {{.HostConfig.UTSMode}} {{.HostConfig.UsernsMode}}' full",
        Differing(
            (0, "67108864 private   \n"),
            (0, "65536000 shareable private private \n"),
        ),
    ),
    // podman's defaults are among them, in Docker there is null.
    (
        "inspect --format '{{len .HostConfig.Ulimits}}' full",
        Differing((0, "0\n"), (0, "2\n")),
    ),
    ("inspect --format '{{len .HostConfig.Binds}}' full", Same),
    (
        "inspect --format '{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}} {{.Propagation}}{{end}}' full",
        Same,
    ),
    (
        "inspect --format '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.Restarting}} {{.State.OOMKilled}} {{.State.Dead}} {{.State.Pid}} {{.State.ExitCode}}' full",
        Same,
    ),
    (
        "inspect --format '{{.State.StartedAt}} {{.State.FinishedAt}}' full",
        Same,
    ),
    (
        "inspect --format '{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Ports}}' full",
        Same,
    ),
    (
        "inspect --format '{{.ProcessLabel}}{{.MountLabel}}{{.AppArmorProfile}}' full",
        Same,
    ),
    ("inspect --format '{{.ExecIDs}}' full", Same),
    ("inspect --format '{{.LogPath}}' nosuch", Refused),
    ("inspect --format '{{.Nonsense}}' full", Refused),
    ("inspect --format '{{' full", Refused),
    // Docker's names begin with a slash.
    (
        "inspect --type container --format {{.Name}} full",
        Differing((0, "/full\n"), (0, "full\n")),
    ),
    // podman's ids of images have no algorithm.
    (
        "inspect --type image --format {{.Id}} localhost/made",
        Differing((0, "sha256:ID\n"), (0, "ID\n")),
    ),
    // The code is each one's own, as above.
    (
        "inspect --type image full",
        Differing((1, "[]\n!\n"), (125, "[]\n!\n")),
    ),
    // The code is each one's own, as above.
    (
        "inspect --type volume full",
        Differing((1, "[]\n!\n"), (125, "[]\n!\n")),
    ),
    // Docker's names begin with a slash.
    (
        "inspect --format '{{.Name}}' full nosuch full",
        Differing((1, "/full\n/full\n!\n"), (125, "full\nfull\n!\n")),
    ),
    // The code is each one's own, as above.
    ("inspect nosuch", Differing((1, "[]\n!\n"), (125, "[]\n!\n"))),
    ("inspect", Refused),
    // Docker's names begin with a slash.
    (
        "container inspect --format {{.Name}} full",
        Differing((0, "/full\n"), (0, "full\n")),
    ),
    // The code is each one's own, as above.
    (
        "container inspect localhost/made",
        Differing((1, "[]\n!\n"), (125, "[]\n!\n")),
    ),
    // The code is each one's own, as above.
    ("image inspect full", Differing((1, "[]\n!\n"), (125, "[]\n!\n"))),
    ("$ t inspect full | jq -c 'length, .[0].Config.Labels.k'", Same),
    ("$ t inspect -s --format '{{.SizeRw}}' full", Same),
    (
        "inspect --format '{{.HostConfig.PortBindings}} {{.HostConfig.PublishAllPorts}}' full",
        Same,
    ),
    ("inspect --format '{{json .HostConfig.PortBindings}}' full", Same),
    ("port full", Same),
    // Docker: it is an error that it is not published.
    ("port full 80", Differing((1, "!\n"), (0, ""))),
    ("port nosuch", Refused),
    ("rm full", Same),
];

const LOGS: &[Line] = &[
    (
        "run --name ll @ sh:echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three; sleep 0.1; printf four",
        Same,
    ),
    ("logs ll", Same),
    ("$ t logs ll 2> /dev/null", Same),
    // podman counts the lines of a last one without an end as well, and joins them.
    ("logs --tail 1 ll", Differing((0, "four\n"), (0, "threefour\n"))),
    // podman counts the lines of a last one without an end as well, and joins them.
    (
        "logs --tail 2 ll",
        Differing((0, "three\nfour\n"), (0, "threefour\n2> two\n")),
    ),
    // Docker: what is no number means all; none is a number. To podman it is the beginning of an id, nobody's.
    ("logs -n 00000000 ll", Differing((0, ""), (125, "!\n"))),
    // Docker: what is no number means all; none is a number.
    (
        "logs --tail all ll",
        Differing((0, "one\nthree\nfour\n2> two\n"), (125, "!\n")),
    ),
    ("logs --tail -1 ll", Same),
    // Docker: what is no number means all; none is a number.
    (
        "logs --tail nonsense ll",
        Differing((0, "one\nthree\nfour\n2> two\n"), (125, "!\n")),
    ),
    ("logs -t ll", Same),
    // podman counts the lines of a last one without an end as well, and joins them.
    (
        "logs --timestamps --tail 1 ll",
        Differing((0, "TIME four\n"), (0, "TIME threefour\n")),
    ),
    ("logs -f ll", Same),
    // podman counts the lines of a last one without an end as well, and joins them.
    (
        "logs --follow --tail 1 ll",
        Differing((0, "four\n"), (0, "threefour\n")),
    ),
    ("logs --since 1h ll", Same),
    // An hour ago, as Docker has it; podman's lies ahead.
    (
        "logs --until 1h ll",
        Differing((0, ""), (0, "one\nthree\nfour\n2> two\n")),
    ),
    ("logs --since 2001-01-01 ll", Same),
    (
        "logs --since 2001-01-01T00:00:00Z --until 2001-01-02T00:00:00Z ll",
        Same,
    ),
    ("logs --since 1000000000 --until 1000000001 ll", Same),
    ("logs --since nonsense ll", Refused),
    ("logs nosuch", Refused),
    ("logs", Refused),
    // podman counts the lines of a last one without an end as well, and joins them.
    (
        "container logs --tail 1 ll",
        Differing((0, "four\n"), (0, "threefour\n")),
    ),
    ("start ll", Same),
    ("wait ll", Same),
    ("logs ll", Same),
    ("rm ll", Same),
    ("run --name quiet --log-driver none @ echo x", Same),
    ("logs quiet", Refused),
    ("rm quiet", Same),
    ("run -t --name tty @ sh:echo one; echo two >&2", Same),
    ("logs tty", Same),
    ("rm tty", Same),
    // Attached.
    (
        "run -d --stop-timeout 0 --name said @ sh:while [ ! -e /go ]; do sleep 0.1; done; echo out; echo err >&2; exit 6",
        Same,
    ),
    // podman ends with a line, and not by the container's code.
    (
        "$ (sleep 2; t exec said touch /go) & t attach --no-stdin said",
        Differing((6, "out\n2> err\n"), (0, "out\n\n2> err\n")),
    ),
    ("attach --no-stdin said", Refused),
    ("attach nosuch", Refused),
    ("wait said", Same),
    ("rm said", Same),
    ("run -d -i --name heard @ sh:read line; echo got $line", Same),
    // podman ends with a line, and not by the container's code.
    (
        "$ echo hello | t attach heard",
        Differing((0, "got hello\n"), (0, "got hello\n\n")),
    ),
    ("wait heard", Same),
    ("logs heard", Same),
    ("rm -f heard", Same),
];

#[test]
fn ps() {
    compare("FROM base\n", &[SCENE, PS].concat());
}

#[test]
fn inspect() {
    compare("FROM base\n", INSPECT);
}

#[test]
fn logs() {
    compare("FROM base\n", LOGS);
}
