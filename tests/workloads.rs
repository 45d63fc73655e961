//! Do databases, package managers, compilers and archives do on a container's tree what they do on the host's filesystem,
//! and notice nothing when its servers die? And does Bryo run in Bryo (`workloads/nested.rs`, of the same image), and do
//! projects that are built on it work (`workloads/projects.rs`), also elsewhere (`workloads/elsewhere.rs`)? Does the kernel's
//! overlayfs stand on it (`workloads/stacked.rs`)?
//!
//! Each workload is a script, `tests/workloads/*.sh`, which works in $W and prints only what must always be the same. It
//! runs in the container's tree, there again while servers die, and in a directory of the host's that is bound in its place.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;
#[path = "workloads/elsewhere.rs"]
mod elsewhere;
#[path = "workloads/nested.rs"]
mod nested;
#[path = "workloads/projects.rs"]
mod projects;
#[path = "workloads/stacked.rs"]
mod stacked;

use std::fs;
use std::sync::OnceLock;

use common::{Bryo, Done, field, has_id_range};

/// The store with PostgreSQL, SQLite, git, rpm, npm, pip, gcc, cargo, rsync and tar; and the image's name.
fn workloads() -> &'static (Bryo, String) {
    static STORE: OnceLock<(Bryo, String)> = OnceLock::new();
    STORE.get_or_init(|| Bryo::shared_by_all("workloads"))
}

/// Where a workload works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Tree,
    /// The same, and each server dies at its n-th request, at this point of it: a debug build's `FUSE_OVERLAY_KILL`.
    DyingTree(&'static str),
    Host,
}

/// Runs a workload, expects success; gives what it said.
#[track_caller]
fn work(name: &str, script: &str, place: Place) -> String {
    let (bryo, image) = workloads();
    let container = format!(
        "{name}-{}",
        format!("{place:?}").replace(|c: char| !c.is_alphanumeric(), "")
    );
    // With one id, only root exists.
    let (other, group) = if has_id_range() {
        ("nobody", "nogroup")
    } else {
        ("root", "root")
    };
    let mut run = bryo.command(["run", "--name", &container, "-e", "W=/w"]);
    run.args([
        "-e",
        &format!("OTHER={other}"),
        "-e",
        &format!("OTHER_GROUP={group}"),
    ]);
    match place {
        Place::Tree => {}
        Place::DyingTree(point) => drop(run.env("FUSE_OVERLAY_KILL", point)),
        Place::Host => {
            let directory = bryo.scratch(&container);
            fs::create_dir(&directory).unwrap();
            run.args(["-v", &format!("{}:/w", directory.display())]);
        }
    }
    // What other ids own is the container's to remove.
    let script = format!("mkdir -p $W; cd $W\n(\n{script})\nfind $W -mindepth 1 -delete");
    let done = Done::of(run.args([image.as_str(), "bash", "-euo", "pipefail", "-c", &script]));
    assert!(
        done.status.success() && done.stderr.is_empty(),
        "{place:?}: {done}"
    );
    let died: u32 = field(bryo, &container, "{{.State.FilesystemTakeovers.Servers}}")
        .parse()
        .unwrap();
    assert_eq!(
        died > 1,
        matches!(place, Place::DyingTree(_)),
        "{died} servers died"
    );
    bryo.ok(["rm", &container]);
    done.stdout
}

/// Runs a workload everywhere, and compares.
#[track_caller]
fn everywhere(name: &str, script: &str, point: &'static str) -> String {
    let said = work(name, script, Place::Tree);
    assert_eq!(
        work(name, script, Place::Host),
        said,
        "the host's filesystem first"
    );
    assert_eq!(
        work(name, script, Place::DyingTree(point)),
        said,
        "with dying servers first"
    );
    said
}

#[test]
fn postgresql_recovers_from_a_crash() {
    if !has_id_range() {
        println!("not run: initdb and postgres refuse to be root, and with one id there is nobody else");
        return;
    }
    let said = everywhere("postgres", include_str!("workloads/postgres.sh"), "sent:7001");
    assert_eq!(said, "400\n4\nredo starts\n0|0|0\nBad checksums:  0\n");
}

#[test]
fn sqlite_shares_its_log_between_processes() {
    let said = everywhere("sqlite", include_str!("workloads/sqlite.sh"), "happened:401");
    assert_eq!(
        said,
        "wal\nthe reader saw whole transactions\na|100\nb|100\nok\n0|0|0\nbase\n"
    );
}

#[test]
fn git_clones_packs_and_prunes() {
    let said = everywhere("git", include_str!("workloads/git.sh"), "sent:9001");
    // Before this, two ids of what was made of the image's files.
    assert!(
        said.ends_with("\ncount: 0\npacks: 1\ngarbage: 0\nremoved\n"),
        "{said}"
    );
}

#[test]
fn rpm_and_dpkg_keep_their_databases() {
    let said = everywhere("packages", include_str!("workloads/packages.sh"), "saved:2503");
    let rpm = "S.5....T.  c /etc/tiny.conf\nS.5....T.    /opt/tiny/7\nS.5....T.  c /etc/tiny.conf\n2 644\n1 4711\n\
        tiny-2-1.noarch\nwarning: /etc/tiny.conf saved as /etc/tiny.conf.rpmsave\n";
    let dpkg = "??5?????? c /etc/little.conf\n2 60\n2\nlittle\t2\nroot\nvar\n";
    assert_eq!(said, format!("{rpm}{dpkg}"));
}

#[test]
fn npm_installs_offline() {
    let said = everywhere("npm", include_str!("workloads/npm.sh"), "saved:3001");
    let modules = "/project\n/project/node_modules/high\n/project/node_modules/low\n";
    assert_eq!(
        said,
        format!(
            "low-1.0.0.tgz\nhigh-2.0.0.tgz\nhigh says 5050\nhigh says 5050\n{modules}\
             node_modules\npackage-lock.json\npackage.json\n1\n"
        )
    );
}

#[test]
fn pip_builds_and_installs_offline() {
    let said = everywhere("pip", include_str!("workloads/pip.sh"), "read:7001");
    assert_eq!(
        said,
        "tiny 5050\ntiny\ntiny-1.0.dist-info\ntiny 5050\ntiny\ntiny-2.0.dist-info\nenv/lib/python3.11/site-packages\n"
    );
}

#[test]
fn gcc_and_make_build_what_changed() {
    let said = everywhere("gcc", include_str!("workloads/gcc.sh"), "read:2003");
    // Behind this, a hash of what was compiled.
    assert!(said.starts_with("270\n61\n828\n6\n"), "{said}");
}

#[test]
fn cargo_builds_and_tests() {
    let said = everywhere("cargo", include_str!("workloads/cargo.sh"), "happened:2503");
    assert_eq!(
        said,
        "15750\n1\n1000\nok. 19 passed\nCargo.lock\nCargo.toml\nsrc\n"
    );
}

#[test]
fn rsync_copies_hard_links_attributes_and_holes() {
    let said = everywhere("rsync", include_str!("workloads/rsync.sh"), "happened:20011");
    let lines: Vec<&str> = said.lines().collect();
    // Linked files; files that a snapshot does not share; a hash of the tree; groups of links.
    assert!(matches!(lines[..], ["120", "0", _, "32"]), "{said}");
}

#[test]
fn tar_keeps_all_that_a_file_has() {
    let said = everywhere("tar", include_str!("workloads/tar.sh"), "sent:701");
    let id = if has_id_range() { 65534 } else { 0 };
    for kept in [
        "user.note=\"some text\"",
        "security.capability=",
        &format!("default:user:{id}:rwx"),
        "-157668955.1234567890",
        // What an increment holds; one file lies in the future.
        "\n./file\n./later\n./dir/attributes\n./dir/linked\n./dir/new\n",
    ] {
        assert!(said.contains(kept), "{kept} is missing: {said}");
    }
}
