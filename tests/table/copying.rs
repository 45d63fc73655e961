//! What comes out of a container and goes into it: cp, export, diff, commit.

use crate::beside::Meant::{Differing, Refused, Same};
use crate::beside::{Line, compare};

const TABLE: &[Line] = &[
    (
        "run --name cc @ sh:mkdir /d; echo one > /d/one; ln -s one /d/soft; echo x > /x; rm /data/gone; chmod 600 /data/file; mkdir -p /d/deep/er",
        Same,
    ),
    // podman's own files in /etc are seen.
    (
        "$ t diff cc | sort",
        Differing(
            (
                0,
                "A /d\nA /d/deep\nA /d/deep/er\nA /d/one\nA /d/soft\nA /x\nC /data\nC /data/file\nD /data/gone\n",
            ),
            (
                0,
                "A /d\nA /d/deep\nA /d/deep/er\nA /d/one\nA /d/soft\nA /x\nC /data\nC /data/file\nC /etc\nD /data/gone\n",
            ),
        ),
    ),
    ("diff nosuch", Refused),
    ("$ t cp cc:/x x && cat x", Same),
    ("$ t cp cc:/x sub && cat sub/x", Same),
    ("$ t cp cc:/x sub/ && cat sub/x", Same),
    ("$ t cp cc:/x not/there", Refused),
    ("$ t cp cc:/x new/", Refused),
    ("$ t cp cc:/d d && find d | sort && cat d/soft", Same),
    ("$ t cp cc:/d d && find d | sort", Same),
    ("$ t cp cc:/d/. e && find e | sort", Same),
    ("$ t cp cc:/d x", Refused),
    ("$ t cp cc:/nosuch y", Refused),
    ("$ t cp nosuch:/x y", Refused),
    ("$ t cp cc:/x - | tar -tf -", Same),
    ("$ t cp cc:/d - | tar -tf - | sed s:/$:: | sort", Same),
    ("$ t cp cc:d/one z && cat z", Same),
    ("$ t cp file cc:/ && t cp cc:/file - | tar -xOf -", Same),
    ("$ t cp file cc:/d && t cp cc:/d/file - | tar -xOf -", Same),
    ("$ t cp file cc:/named && t cp cc:/named - | tar -xOf -", Same),
    ("$ t cp file cc:/not/there", Refused),
    ("$ t cp file cc:/new/", Refused),
    (
        "$ t cp sub cc:/sub && t cp cc:/sub - | tar -tf - | sed s:/$:: | sort",
        Same,
    ),
    (
        "$ t cp sub cc:/sub && t cp cc:/sub - | tar -tf - | sed s:/$:: | sort",
        Same,
    ),
    (
        "$ t cp sub/. cc:/d && t cp cc:/d - | tar -tf - | sed s:/$:: | sort",
        Same,
    ),
    ("$ t cp sub cc:/x", Refused),
    ("$ t cp nosuch cc:/", Refused),
    ("$ t cp file nosuch:/", Refused),
    (
        "$ tar -cf - file | t cp - cc:/d && t cp cc:/d/file - | tar -xOf -",
        Same,
    ),
    ("$ echo nonsense | t cp - cc:/d", Refused),
    ("$ tar -cf - file | t cp - cc:/x", Refused),
    // Docker copies the link itself, podman what it leads to.
    (
        "$ t cp cc:/d/soft soft && readlink soft",
        Differing((0, "one\n"), (1, "")),
    ),
    // podman has no -L.
    (
        "$ t cp -L cc:/d/soft followed && cat followed",
        Differing((0, "one\n"), (125, "!\n")),
    ),
    ("$ t cp file file", Refused),
    ("$ t cp cc:/x", Refused),
    (
        "$ t create --name other @ true > /dev/null && t cp cc:/x other:/y && t cp other:/y - | tar -xOf -",
        Same,
    ),
    ("rm other", Same),
    ("$ t export cc | tar -tf - | grep -E '^(d|x|named)' | sort", Same),
    ("$ t export -o tree.tar cc && tar -xOf tree.tar x", Same),
    ("export nosuch", Refused),
    // Of one that runs.
    ("run -d --stop-timeout 0 --name rr --tmpfs /t @ sleep 1000", Same),
    ("$ t cp file rr:/t/ && t exec rr cat /t/file", Same),
    ("$ t cp rr:/t/file back && cat back", Same),
    ("$ t cp file rr:/ && t exec rr stat -c '%u:%g %a' /file", Same),
    (
        "$ t exec rr chown 5:6 /file && t cp -a rr:/file kept && stat -c %a kept",
        Same,
    ),
    // podman's own files in /etc are seen.
    (
        "$ t diff rr | sort",
        Differing((0, "A /file\nA /t\n"), (0, "A /file\nA /t\nC /etc\n")),
    ),
    // Images of them.
    (
        "$ t commit cc localhost/saved:1 2> /dev/null | sed s/sha256://",
        Same,
    ),
    ("run --rm --network none localhost/saved:1 cat /x", Same),
    (
        "$ t commit --change 'CMD [\"echo\", \"changed\"]' --change 'ENV A=1'  -a me cc localhost/changed > /dev/null 2>&1",
        Same,
    ),
    // podman adds variables of its own to the image, in any order.
    (
        "$ t inspect --type image --format '{{json .Config.Cmd}} {{.Author}}{{range .Config.Env}}{{println}}{{.}}{{end}}' localhost/changed | LC_ALL=C sort",
        Differing(
            (0, "A=1\nPATH=/bin:/usr/bin\n[\"echo\",\"changed\"] me\n"),
            (
                0,
                "A=1\nPATH=/bin:/usr/bin\nTERM=xterm\n[\"echo\",\"changed\"] me\ncontainer=podman\n",
            ),
        ),
    ),
    (
        "$ t commit rr localhost/running 2> /dev/null | sed s/sha256://",
        Same,
    ),
    ("commit nosuch localhost/x", Refused),
    ("commit cc UPPER", Refused),
    ("commit --change 'NONSENSE x' cc localhost/x", Refused),
    ("$ t rm -f rr cc | sort", Same),
];

#[test]
fn copying() {
    compare("FROM base\nCOPY data /data\nRUN touch /data/gone\n", TABLE);
}
