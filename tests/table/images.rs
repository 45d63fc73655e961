//! Images: listed, named, told of, saved, loaded, removed.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const TABLE: &[Line] = &[
    ("images --format '{{.Repository}} {{.Tag}}'", Same),
    ("$ t images -q | wc -l", Same),
    // podman has a space before the unit.
    (
        "images --format '{{.ID}} {{.CreatedSince}} {{.Size}}'",
        Differing((0, "ID AGE 2.14MB\n"), (0, "ID AGE 2.14 MB\n")),
    ),
    ("images --format '{{json .Repository}}'", Same),
    ("images -q nosuch", Same),
    ("images --format {{.Repository}} localhost/made", Same),
    ("images --format {{.Repository}} localhost/made:latest", Same),
    ("images --filter dangling=true -q", Same),
    (
        "images --filter reference=localhost/m* --format {{.Repository}}",
        Same,
    ),
    ("images --filter label=k --format {{.Repository}}", Same),
    ("images --filter label=k=w --format {{.Repository}}", Same),
    ("images --filter nonsense=1", Refused),
    ("tag localhost/made localhost/other:1", Same),
    ("tag localhost/made localhost/other", Same),
    ("tag nosuch localhost/x", Refused),
    ("tag localhost/made UPPER", Refused),
    ("$ t images --format '{{.Repository}}:{{.Tag}}' | sort", Same),
    // podman shows all names of an image, Docker those that were asked for.
    (
        "$ t images --format '{{.Repository}}:{{.Tag}}' localhost/other | sort",
        Differing(
            (0, "localhost/other:1\nlocalhost/other:latest\n"),
            (
                0,
                "localhost/made:latest\nlocalhost/other:1\nlocalhost/other:latest\n",
            ),
        ),
    ),
    ("$ t images --filter before=localhost/made -q", Same),
    ("$ t images --filter since=localhost/made -q", Same),
    ("history --format '{{.CreatedBy}}' localhost/made", Same),
    ("$ t history -q localhost/made | wc -l", Same),
    ("history --no-trunc --format '{{.Comment}}' localhost/made", Same),
    ("history nosuch", Refused),
    (
        "image inspect --format '{{.Os}} {{.Architecture}} {{json .Config.Cmd}} {{json .Config.Entrypoint}} {{.Config.WorkingDir}} {{.Config.User}}' localhost/made",
        Same,
    ),
    (
        "image inspect --format '{{json .Config.Labels}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}}' localhost/made",
        Same,
    ),
    // podman's ids of images have no algorithm.
    (
        "image inspect --format '{{.Id}} {{.Created}} {{len .RootFS.Layers}} {{.RootFS.Type}}' localhost/made",
        Differing((0, "sha256:ID TIME 3 layers\n"), (0, "ID TIME 3 layers\n")),
    ),
    ("image inspect --format '{{.RepoTags}}' localhost/made", Same),
    // The code is each one's own, as above.
    (
        "image inspect nosuch",
        Differing((1, "[]\n!\n"), (125, "[]\n!\n")),
    ),
    // podman shows all names of an image, Docker those that were asked for.
    (
        "image ls --format {{.Tag}} localhost/made",
        Differing((0, "latest\n"), (0, "latest\n1\nlatest\n")),
    ),
    ("image history --format '{{.CreatedBy}}' localhost/made", Same),
    ("image tag localhost/made localhost/grouped", Same),
    ("image rm localhost/grouped", Same),
    (
        "$ t save -o saved.tar localhost/made 2> /dev/null && tar -tf saved.tar | grep -c manifest.json",
        Same,
    ),
    ("save -o none.tar nosuch", Refused),
    ("rmi localhost/other", Same),
    ("rmi nosuch", Same),
    ("rmi -f nosuch", Same),
    ("rmi localhost/other:1 nosuch", Same),
    ("create --name uses @ true", Same),
    ("rmi localhost/made", Refused),
    ("rm uses", Same),
    ("$ t rmi localhost/made | grep -c Untagged", Same),
    ("images -q", Same),
    ("$ t load -i saved.tar 2> /dev/null", Same),
    ("$ t load -q -i saved.tar 2> /dev/null", Same),
    ("$ t load < saved.tar 2> /dev/null", Same),
    ("load -i file", Refused),
    ("load -i nosuch.tar", Refused),
    ("$ t images --format '{{.Repository}}:{{.Tag}}' | sort", Same),
    ("run --rm @ cat /data/file", Same),
    // Docker always tells what was won.
    (
        "image prune -f",
        Differing((0, "Total reclaimed space: 0B\n"), (0, "")),
    ),
];

#[test]
fn images() {
    compare(
        "FROM base\nCOPY data /data\nENV A=1\nLABEL k=v\nEXPOSE 80\nVOLUME /v\nWORKDIR /data\nUSER 1\nENTRYPOINT [\"env\"]\nCMD [\"true\"]\n",
        TABLE,
    );
}
