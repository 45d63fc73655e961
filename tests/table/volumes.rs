//! Volumes, and what is mounted.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const TABLE: &[Line] = &[
    ("volume create data", Same),
    // Docker makes sure that it is there; podman wants --ignore for that.
    ("volume create data", Differing((0, "data\n"), (125, "!\n"))),
    ("volume create a/b", Refused),
    (
        "volume create -o type=none -o device=relative -o o=bind bad",
        Differing((1, "!\n"), (0, "bad\n")),
    ),
    ("volume create --label k=v --label only labelled", Same),
    ("volume ls -q --filter label=k=v", Same),
    ("$ t volume ls -q --filter label=k | sort", Same),
    ("volume ls -q --filter label=k=x", Same),
    ("volume ls -q --filter name=abel", Same),
    (
        "volume ls --format {{.Name}}={{.Driver}} --filter name=data",
        Same,
    ),
    (
        "volume inspect --format {{.Name}}-{{.Driver}}-{{.Scope}}-{{.Labels.k}} labelled",
        Same,
    ),
    ("volume inspect none", Differing((1, "[]\n!\n"), (125, "[]\n!\n"))),
    ("volume rm none", Same),
    // Docker says the name of what it was asked to force away.
    ("volume rm -f none", Differing((0, "none\n"), (0, ""))),
    ("volume rm labelled", Same),
    (
        "run --rm -v data:/data @ sh:cat /data/file; stat -c '%a %u:%g' /data /data/file; echo new > /data/new",
        Same,
    ),
    ("run --rm -v data:/data @ sh:ls /data; rm /data/file", Same),
    ("run --rm -v data:/data @ sh:ls /data", Same),
    (
        "run --rm -v data:/elsewhere:ro @ sh:cat /elsewhere/new; touch /elsewhere/x 2>/dev/null || echo refused",
        Same,
    ),
    ("run --rm -v made:/data:nocopy @ sh:ls -A /data", Same),
    // podman's copy from the image gives the top its owner back.
    (
        "run --rm -v own:/data:U -u 123:45 @ sh:stat -c '%u:%g' /data /data/file",
        Differing((0, "123:45\n123:45\n"), (0, "999:998\n123:45\n")),
    ),
    // podman 4.3 refuses readonly of a volume here.
    (
        "run --rm --mount type=volume,src=keyed,dst=/data,readonly @ sh:cat /data/file; touch /data/x 2>/dev/null || echo refused",
        Differing((0, "from the image\nrefused\n"), (125, "!\n")),
    ),
    (
        "run --rm --mount type=volume,src=keyed,dst=/data @ sh:cat /data/file",
        Same,
    ),
    (
        "run --rm --mount type=volume,src=keyed,target=/data,bogus=1 @ sh:true",
        Same,
    ),
    ("run --rm --mount type=volume,src=keyed @ sh:true", Same),
    ("run --rm --mount type=bind,src=/none,dst=/b @ sh:true", Same),
    (
        "run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 @ sh:stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2",
        Same,
    ),
    ("run --rm -v data:/data:bogus @ sh:true", Same),
    ("run --rm -v a/b:/data @ sh:true", Same),
    ("run --rm -v data:relative @ sh:true", Same),
    ("run --rm -v data:/x -v data:/y @ sh:ls /x; ls /y", Same),
    ("run --rm -v data:/x -v keyed:/x @ sh:true", Same),
    ("run --rm -v ./sub:/h @ sh:echo x > /h/x; ls /h", Same),
    ("run --rm @ sh:cat /data/file", Same),
    // Nothing of the containers above is left but volumes with names.
    (
        "$ t volume ls -q | sort",
        Differing(
            (0, "data\nkeyed\nmade\nown\n"),
            (0, "bad\ndata\nkeyed\nmade\nown\n"),
        ),
    ),
    ("create --name user -v data:/x -v /unnamed @ sh:true", Same),
    ("volume rm data", Refused),
    ("$ t volume ls -q --filter dangling=false | wc -l", Same),
    // With several filters podman shows what any of them lets through, Docker what all do.
    (
        "$ t volume ls -q --filter dangling=false --filter name=made | grep -E '^(data|made)$' | sort",
        Differing((1, ""), (0, "data\nmade\n")),
    ),
    ("ps -a --filter volume=data --format {{.Names}}", Same),
    ("ps -a --filter volume=dat --format {{.Names}}", Same),
    (
        "run --rm --volumes-from user:ro @ sh:cat /x/new; touch /unnamed/x 2>/dev/null || echo refused",
        Same,
    ),
    ("run --rm --volumes-from nobody @ sh:true", Same),
    ("rm -v user", Same),
    ("volume ls -q --filter name=data", Same),
    // Since Docker 23 a prune takes what nobody named; podman's takes all.
    (
        "volume prune -f",
        Differing(
            (0, "Total reclaimed space: 0B\n"),
            (0, "bad\ndata\nkeyed\nmade\nown\n"),
        ),
    ),
    ("volume create data", Same),
    ("volume rm data", Same),
];

#[test]
fn volumes() {
    compare(
        "FROM base\nCOPY --chown=999:998 data /data\nRUN chmod 751 /data\nVOLUME /data\n",
        TABLE,
    );
}
