//! Containers made, started, ended, named.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const RUN: &[Line] = &[
    ("run --rm @ sh:echo out; echo err >&2; exit 3", Same),
    ("run --rm @ true", Same),
    ("run --rm @ sh:kill -9 $$", Same),
    ("run --rm @ sh:exit 300", Same),
    ("$ echo hello | t run --rm -i @ cat", Same),
    ("$ echo hello | t run --rm @ cat", Same),
    ("run --rm -w /etc @ pwd", Same),
    // Docker makes it.
    (
        "run --rm -w /not/there @ pwd",
        Differing((0, "/not/there\n"), (126, "!\n")),
    ),
    // Docker: 125, as of flags that cannot be.
    (
        "run --rm -w relative @ pwd",
        Differing((125, "!\n"), (126, "!\n")),
    ),
    (
        "run --rm -e A=1 -e B= -e PATH -e NOTSET --env C=3 @ sh:echo $A,$B,$C,${NOTSET-unset}",
        Same,
    ),
    (
        "$ printf '# x\\nA=1\\nB=two words\\nHOME\\n' > env; t run --rm --env-file env -e A=2 @ sh -c 'echo $A,$B,$HOME'",
        Same,
    ),
    ("run --rm --env-file none @ true", Same),
    ("run --rm -u 1:2 @ sh:id -u; id -g; id -G", Same),
    ("run --rm -u nobody @ sh:id -un; id -gn", Same),
    // Docker: 125, as of flags that cannot be.
    ("run --rm -u nosuch @ true", Differing((125, "!\n"), (126, "!\n"))),
    // Docker: 125, as of flags that cannot be.
    (
        "run --rm -u 1 --group-add 5 --group-add tty @ id -G",
        Differing((125, "!\n"), (126, "!\n")),
    ),
    ("run --rm --entrypoint echo @ a b", Same),
    // podman reads JSON here, Docker a name.
    (
        "run --rm --entrypoint '[\"echo\",\"x\"]' @ a",
        Differing((127, "!\n"), (0, "x a\n")),
    ),
    ("run --rm --entrypoint '' @ echo a", Same),
    ("run --rm --hostname here @ hostname", Same),
    ("run --rm -h here @ cat /etc/hostname", Same),
    // podman's --read-only-tmpfs makes /tmp writable.
    (
        "run --rm --read-only @ sh:touch /x; touch /tmp/x",
        Differing(
            (
                1,
                "2> touch: /x: Read-only file system\n2> touch: /tmp/x: Read-only file system\n",
            ),
            (0, "2> touch: /x: Read-only file system\n"),
        ),
    ),
    (
        "run --rm --tmpfs /t:size=1m,mode=700 @ sh:stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2",
        Same,
    ),
    (
        "run --rm --cap-drop ALL --cap-add CHOWN @ sh:grep CapEff /proc/self/status",
        Same,
    ),
    ("run --rm --cap-add nonsense @ true", Same),
    (
        "run --rm @ sh:grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status",
        Same,
    ),
    (
        "run --rm --security-opt no-new-privileges @ sh:grep NoNewPrivs /proc/self/status",
        Same,
    ),
    ("run --rm --security-opt nonsense @ true", Same),
    (
        "run --rm --ulimit nofile=100:200 @ sh:ulimit -n; ulimit -Hn",
        Same,
    ),
    ("run --rm --ulimit nonsense=1 @ true", Same),
    (
        "run --rm --shm-size 1m @ sh:df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
        Same,
    ),
    ("run --rm --add-host h:1.2.3.4 @ sh:grep 1.2.3.4 /etc/hosts", Same),
    ("run --rm --add-host nonsense @ true", Same),
    ("run --rm -v $PWD/file:/f:ro @ sh:cat /f; echo x > /f", Same),
    // Docker makes a directory of the host that is missing; podman does not.
    (
        "run --rm -v $PWD/missing:/m @ true",
        Differing((0, ""), (125, "!\n")),
    ),
    (
        "$ rm -rf missing; t run --rm --mount type=bind,src=$PWD/missing,dst=/m @ true",
        Same,
    ),
    (
        "run --rm --device /dev/null:/dev/mine @ sh:echo x > /dev/mine; ls -l /dev/mine | cut -c1",
        Same,
    ),
    ("run --rm --device /dev/nothing @ true", Same),
    ("run --rm --pull never @ true", Same),
    ("run --rm --pull never --network none localhost/nosuch true", Same),
    ("run --rm --pull sometimes @ true", Same),
    ("run --rm --network none '' true", Same),
    ("run --rm --network none UPPER true", Same),
    ("run --rm --nosuchflag @ true", Same),
    ("run", Refused),
    ("run --rm --log-driver nonsense @ true", Same),
    ("run --rm --stop-signal nonsense @ true", Same),
    ("run --rm --restart always @ true", Same),
    ("run --rm -d --name dd @ true", Same),
    ("run --name 'a b' @ true", Same),
    ("run --rm @ nothere", Same),
    ("run --rm @ /etc/passwd", Same),
    ("run --rm @ /etc", Same),
    // The code is each one's own.
    ("run --rm @ ''", Differing((125, "!\n"), (126, "!\n"))),
    ("run --name failed @ nothere", Same),
    // podman's State is the status in words, its tables have other columns.
    (
        "ps -a --format '{{.Names}} {{.State}}'",
        Differing((0, "failed created\n"), (0, "failed Created\n")),
    ),
    // podman keeps no code of what never ran.
    (
        "inspect --format '{{.State.Status}} {{.State.ExitCode}}' failed",
        Differing((0, "created 127\n"), (0, "created 0\n")),
    ),
    ("rm failed", Same),
    ("run --cidfile cid --name withid @ true", Same),
    (
        "$ [ \"$(cat cid)\" = \"$(t inspect --format {{.Id}} withid)\" ]",
        Same,
    ),
    ("run --cidfile cid @ true", Same),
    ("rm withid", Same),
    (
        "run -d --cidfile other --pidfile $PWD/pid --stop-timeout 0 --name withpid @ sleep 1000",
        Same,
    ),
    (
        "$ [ \"$(cat pid)\" = \"$(t inspect --format {{.State.Pid}} withpid)\" ]",
        Same,
    ),
    ("rm -f withpid", Same),
    ("rm -f withpid", Same),
    ("ps -aq", Same),
];

const LIFE: &[Line] = &[
    (
        "create --name one @ sh:echo run; cat /n 2>/dev/null; echo x >> /n; exit 4",
        Same,
    ),
    // podman's State is the status in words, its tables have other columns.
    (
        "ps -a --format '{{.Names}} {{.State}} {{.Status}}'",
        Differing((0, "one created Created\n"), (0, "one Created Created\n")),
    ),
    (
        "inspect --format '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.Pid}} {{.RestartCount}}' one",
        Same,
    ),
    ("logs one", Same),
    ("exec one true", Refused),
    ("kill one", Refused),
    ("top one", Refused),
    ("stop one", Same),
    ("attach one", Refused),
    ("create --name one @ true", Refused),
    ("run --name one @ true", Same),
    ("start one", Same),
    ("wait one", Same),
    ("start -a one", Same),
    ("start --attach one", Same),
    // podman's State is the status in words, its tables have other columns.
    (
        "ps -a --format '{{.Names}} {{.State}} {{.Status}}'",
        Differing(
            (0, "one exited Exited (4) AGE\n"),
            (0, "one Exited (4) AGE Exited (4) AGE\n"),
        ),
    ),
    (
        "inspect --format '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.Pid}} {{.State.OOMKilled}} {{.State.Dead}}' one",
        Same,
    ),
    ("logs one", Same),
    ("wait one one", Same),
    ("stop one", Same),
    ("kill one", Refused),
    ("exec one true", Refused),
    ("rename one two", Same),
    // Docker's names begin with a slash.
    (
        "inspect --format {{.Name}} two",
        Differing((0, "/two\n"), (0, "two\n")),
    ),
    ("rename one three", Refused),
    // Docker: it is its name already.
    ("rename two two", Differing((1, "!\n"), (0, ""))),
    ("rename two 'a b'", Refused),
    ("create --name one @ true", Same),
    ("rename one two", Refused),
    // podman finds all of them first, and does nothing if one is missing.
    (
        "start one two nosuch",
        Differing((1, "one\ntwo\n!\n"), (125, "!\n")),
    ),
    ("wait two", Same),
    // podman finds all of them first, and does nothing if one is missing.
    ("rm one nosuch two", Differing((1, "one\ntwo\n!\n"), (1, "!\n"))),
    ("$ t rm one two > /dev/null 2>&1; t ps -aq", Same),
    ("rm nosuch", Same),
    ("rm -f nosuch", Same),
    ("start nosuch", Refused),
    ("stop nosuch", Refused),
    ("kill nosuch", Refused),
    ("restart nosuch", Refused),
    ("wait nosuch", Refused),
    ("rename nosuch x", Refused),
    ("rm", Refused),
    ("start", Refused),
    // A running one.
    ("run -d --stop-timeout 0 --name up @ sleep 1000", Same),
    // podman's State is the status in words, its tables have other columns.
    (
        "ps --format '{{.Names}} {{.State}} {{.Status}}'",
        Differing((0, "up running Up AGE\n"), (0, "up Up AGE Up AGE\n")),
    ),
    (
        "inspect --format '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}' up",
        Same,
    ),
    // podman says nothing of one that runs already.
    ("start up", Differing((0, "up\n"), (0, ""))),
    ("rm up", Refused),
    ("run -d --stop-timeout 0 --name up @ true", Same),
    ("kill -s CONT up", Same),
    ("kill -s NONSENSE up", Refused),
    ("kill -s KILL up", Same),
    ("wait up", Same),
    (
        "inspect --format '{{.State.Status}} {{.State.ExitCode}}' up",
        Same,
    ),
    ("restart up", Same),
    (
        "inspect --format '{{.State.Status}} {{.State.ExitCode}}' up",
        Same,
    ),
    ("restart -t 0 up", Same),
    ("stop -t 0 up", Same),
    (
        "inspect --format '{{.State.Status}} {{.State.ExitCode}}' up",
        Same,
    ),
    ("start up", Same),
    ("kill up", Same),
    ("wait up", Same),
    (
        "inspect --format '{{.State.Status}} {{.State.ExitCode}}' up",
        Same,
    ),
    ("start up", Same),
    ("stop --time 0 up", Same),
    ("stop up", Same),
    ("rm -f up", Same),
    // How it takes its stop signal.
    (
        "run -d --name polite --stop-signal USR2 @ sh:trap 'echo bye; exit 5' USR2; echo ready; while :; do sleep 0.1; done",
        Same,
    ),
    (
        "$ until t logs polite | grep -q ready; do sleep 0.1; done; t stop polite; t logs polite; t wait polite",
        Same,
    ),
    ("rm polite", Same),
    (
        "run -d --name rude --stop-timeout 0 @ sh:trap : TERM; while :; do sleep 0.1; done",
        Same,
    ),
    ("stop rude", Same),
    ("wait rude", Same),
    ("rm rude", Same),
    // Gone by themselves.
    ("run -d --rm --name gone @ sleep 1000", Same),
    ("stop -t 0 gone", Same),
    (
        "$ for i in $(seq 50); do t inspect gone > /dev/null 2>&1 || break; sleep 0.1; done; t ps -aq",
        Same,
    ),
    ("create --rm --name gone @ echo once", Same),
    ("start -a gone", Same),
    (
        "$ for i in $(seq 50); do t inspect gone > /dev/null 2>&1 || break; sleep 0.1; done; t ps -aq",
        Same,
    ),
    // By the beginning of an id.
    // Docker's names begin with a slash.
    (
        "$ id=$(t create --name byid @ true); t inspect --format {{.Name}} ${id:0:8}; t start ${id:0:12} && t wait $id && test $(t rm ${id:0:5}) = ${id:0:5}",
        Differing((0, "/byid\nID\n0\n"), (0, "byid\nID\n0\n")),
    ),
    ("inspect --format {{.Name}} ''", Refused),
    // Named by podman's own ways.
    (
        "run -d --cidfile cid2 --stop-timeout 0 --name filed @ sleep 1000",
        Same,
    ),
    ("$ t stop --cidfile cid2 | wc -l", Same),
    ("$ t rm --cidfile cid2 | wc -l", Same),
    ("rm --cidfile nosuch", Refused),
    ("stop --ignore nosuch", Same),
    ("rm --ignore nosuch", Same),
    ("create --name last @ true", Same),
    (
        "$ t start $(t ps -lq) > /dev/null; t wait last; t rm --latest | wc -l",
        Same,
    ),
    ("rm --all last", Differing((125, "!\n"), (125, "!\n"))),
    ("run --rm --umask 0077 @ sh:umask", Same),
    // As after any SIGKILL; podman has 255.
    (
        "run --rm --timeout 1 @ sleep 1000",
        Differing((137, ""), (255, "")),
    ),
    ("run --rm --ipc nonsense @ true", Same),
    (
        "run --rm --sysctl kernel.msgmax=9000 @ cat /proc/sys/kernel/msgmax",
        Same,
    ),
    ("run --rm --sysctl vm.swappiness=9 @ true", Same),
    // podman sets it later.
    (
        "run --rm --hostname h --unsetenv HOSTNAME @ sh:env | grep -c ^HOSTNAME=",
        Differing((1, "0\n"), (0, "1\n")),
    ),
    // Without PATH podman finds no program.
    (
        "run --rm --unsetenv-all -e A=1 @ sh:env | grep -E '^(A|HOSTNAME)='",
        Differing((0, "A=1\n"), (127, "!\n")),
    ),
    ("run --rm -a stdout @ sh:echo out; echo err >&2", Same),
    ("run --rm -a stderr @ sh:echo out; echo err >&2", Same),
    ("run --rm --replace @ true", Same),
    // podman tells the old one's id, too.
    (
        "$ t create --name again @ true > /dev/null; t create --replace --name again @ true | wc -l; t rm again",
        Differing((0, "1\nagain\n"), (0, "2\nagain\n")),
    ),
    // Restarted by policy.
    (
        "run -d --name again --restart on-failure:2 @ sh:echo run; exit 3",
        Same,
    ),
    (
        "$ for i in $(seq 100); do [ \"$(t inspect --format '{{.State.Status}} {{.RestartCount}}' again)\" = 'exited 2' ] && break; sleep 0.1; done; t logs again",
        Same,
    ),
    (
        "inspect --format '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}} {{.RestartCount}} {{.State.ExitCode}}' again",
        Same,
    ),
    ("rm again", Same),
    ("run --restart nonsense @ true", Same),
    ("ps -aq", Same),
];

const MADE: &str = "FROM base\n";

#[test]
fn run() {
    compare(MADE, RUN);
}

#[test]
fn life() {
    compare(MADE, LIFE);
}
