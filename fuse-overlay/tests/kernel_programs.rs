//! Do real programs work on the mount? Those of the machine that runs the tests, on files in the mount.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use common::{Ids, Layer, in_mount, in_mounts};

fn image() -> [Layer; 1] {
    [Layer::new()
        .dir("src")
        .file(
            "src/main.c",
            "#include <stdio.h>\nint main(void) { return puts(\"built\") < 0; }\n",
        )
        .file("src/data", "lower\n")]
}

#[test]
fn cp_copies_a_tree_faithfully() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh(
            "cp -a src copy; diff -r src copy; cp -a --no-preserve=ownership /usr/lib/git-core git; diff -rq --no-dereference /usr/lib/git-core git
             test \"$(cd git; find . -type d -printf '%P %m\\n' -o -printf '%P %y %m %s %l\\n' | sort | md5sum)\" = \
                  \"$(cd /usr/lib/git-core; find . -type d -printf '%P %m\\n' -o -printf '%P %y %m %s %l\\n' | sort | md5sum)\"",
        );
    });
}

#[test]
fn tar_packs_and_unpacks() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh("tar -C /usr/include --owner=0 --group=0 -cf include.tar .; mkdir inc; tar -C inc -xf include.tar; diff -rq /usr/include inc; rm -r inc");
    });
}

#[test]
fn git_commits_and_clones() {
    in_mounts(
        Ids::One,
        &image(),
        &[
            &|inside| {
                inside.sh(
                    "export HOME=$PWD GIT_CONFIG_GLOBAL=/dev/null; git init -q repo; cd repo; cp -r ../src .
                     git add .; git -c user.name=n -c user.email=e commit -qm first
                     cd ..; git clone -q repo clone; git -C clone fsck --strict; git -C clone gc -q",
                );
            },
            &|inside| {
                drop(inside.sh("git -c safe.directory='*' -C clone fsck --strict; test -z \"$(git -c safe.directory='*' -C clone status --porcelain)\""));
            },
        ],
    );
}

#[test]
fn gcc_builds_and_the_result_runs() {
    in_mount(Ids::One, &image(), |inside| {
        assert_eq!(
            inside.sh("TMPDIR=$PWD gcc -g -pipe -o src/main src/main.c && src/main"),
            "built\n"
        );
    });
}

#[test]
fn sqlite_commits_in_both_journal_modes() {
    in_mounts(
        Ids::One,
        &image(),
        &[
            &|inside| {
                inside.sh(r#"python3 - <<'END'
import sqlite3
for mode in "wal", "delete":
    db = sqlite3.connect(mode + ".db")
    assert db.execute("pragma journal_mode=" + mode).fetchone()[0] == mode
    db.execute("create table t(n integer primary key, s text)")
    for n in range(50):
        with db: db.executemany("insert into t values (?, ?)", [(n * 100 + i, "x" * i) for i in range(100)])
    db.close()
END"#);
            },
            &|inside| {
                inside.sh(r#"python3 - <<'END'
import sqlite3
for mode in "wal", "delete":
    db = sqlite3.connect(mode + ".db")
    assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
    assert db.execute("select count(*) from t").fetchone()[0] == 5000
END"#);
            },
        ],
    );
}

#[test]
fn a_deep_tree_is_removed() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh("cp -r /usr/include inc; rm -rf inc src; test -z \"$(ls -A | grep -v '^tmp$')\"");
    });
}
