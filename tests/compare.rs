//! Does the same Dockerfile give the tree, config and history that Docker's BuildKit gives?
//!
//! `compare/cases` are the Dockerfiles, `compare/buildkit` what the engine named in `compare/buildkit/VERSION` made of them
//! (`scripts/record-buildkit.sh` recorded it), `compare/meant.txt` where we differ, with the reasons.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

#[path = "compare/case.rs"]
mod case;
mod common;
#[path = "compare/difference.rs"]
mod difference;
#[path = "compare/shown.rs"]
mod shown;

use std::collections::BTreeSet;
use std::fs;

use common::{Done, Project, has_id_range};
use serde_json::{Value, json};

use case::Case;
use difference::{Meant, differences};
use shown::Image;

/// Builds a group of cases, one after the other in one store, and compares each.
fn compare(group: &str) {
    let (records, meant) = (recorded(group), Meant::read());
    let project = Project::new();
    let base = image(&project, "base");
    let (mut said, mut built, mut used) = (String::new(), Vec::new(), BTreeSet::new());
    for case in case::cases(group).iter().filter(|case| case.unknown.is_none()) {
        if case.needs_id_range && !has_id_range() {
            println!("not built: {} needs an id range", case.name);
            continue;
        }
        let theirs = records.get(&case.name);
        let theirs = theirs.unwrap_or_else(|| panic!("{} is not recorded", case.name));
        built.push(case.name.clone());
        for difference in differences(theirs, &ours(&project, case, &base)) {
            match meant.of(&case.name, &difference) {
                Some(entry) => drop(used.insert(entry)),
                None => said += &format!("{} {}", case.name, difference),
            }
        }
    }
    let idle = meant.idle(&built, &used);
    assert!(said.is_empty() && idle.is_empty(), "\n{said}{idle}");
}

fn recorded(group: &str) -> Value {
    let file = case::directory().join("buildkit").join(format!("{group}.json"));
    serde_json::from_str(&fs::read_to_string(file).expect("the group's record")).expect("JSON")
}

fn ours(project: &Project, case: &Case, base: &Image) -> Value {
    let directory = project.bryo.scratch("case");
    fs::create_dir(&directory).unwrap();
    case.write(&directory);
    let shown = build(project, case).map_or_else(
        |said| json!({ "fails": said }),
        |()| image(project, "made").shown(base),
    );
    fs::remove_dir_all(directory).unwrap();
    shown
}

fn build(project: &Project, case: &Case) -> Result<(), String> {
    if !case.first.is_empty() {
        build_file(project, "first", "parent", &[])?;
    }
    build_file(project, "Dockerfile", "made", &case.flags)
}

/// Says how it failed, in its last line.
fn build_file(project: &Project, file: &str, tag: &str, flags: &[String]) -> Result<(), String> {
    let directory = project.bryo.scratch("case");
    let mut command = project.bryo.command(["build", "-t", tag, "-f"]);
    command
        .arg(directory.join(file))
        .args(flags)
        .arg(directory.join("context"));
    let done = Done::of(command.env_remove("SOURCE_DATE_EPOCH"));
    match done.status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(done
            .stderr
            .trim_end()
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .to_owned()),
        _ => panic!("{done}"),
    }
}

/// An image of the store, as its files say.
fn image(project: &Project, name: &str) -> Image {
    let hex = |id: &str| id.trim().trim_start_matches("sha256:").to_owned();
    let id = hex(&project.image(name, "{{.Id}}"));
    let root = project.bryo.root();
    let config = fs::read(root.join("blobs/sha256").join(id)).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
    let layer = |id: &Value| root.join("layers").join(hex(id.as_str().unwrap()) + ".tar");
    let layers = layers.iter().map(|id| fs::read(layer(id)).unwrap()).collect();
    Image::new(config, layers)
}

#[test]
fn add() {
    compare("add");
}

#[test]
fn config() {
    compare("config");
}

#[test]
fn copy() {
    compare("copy");
}

#[test]
fn heredocs() {
    compare("heredocs");
}

#[test]
fn ignore() {
    compare("ignore");
}

#[test]
fn refused() {
    compare("refused");
}

#[test]
fn run() {
    compare("run");
}

#[test]
fn stages() {
    compare("stages");
}

#[test]
fn variables() {
    compare("variables");
}

/// Each group has its test above.
#[test]
fn no_group_is_forgotten() {
    let text = include_str!("compare.rs");
    for group in case::groups() {
        assert!(text.contains(&format!("compare(\"{group}\")")), "{group}");
    }
}

/// Of entries as `kind path mode what`, an image with one layer.
fn image_of(entries: &[(tar::EntryType, &str, u32, &str)]) -> Image {
    let mut layer = tar::Builder::new(Vec::new());
    for (kind, path, mode, what) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
            set(&mut header, 7);
        }
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.set_size(0);
            layer.append_link(&mut header, path, what).unwrap();
        } else {
            header.set_size(what.len() as u64);
            layer.append_data(&mut header, path, what.as_bytes()).unwrap();
        }
    }
    let config = json!({
        "config": { "User": "5", "Cmd": null },
        "history": [{ "created": "then", "created_by": "RUN true", "empty_layer": false }],
        "rootfs": { "diff_ids": ["x"] },
    });
    Image::new(config, vec![layer.into_inner().unwrap()])
}

#[test]
fn each_kind_of_difference_is_seen() {
    use tar::EntryType::{Link, Regular, Symlink};
    let nothing = Image::new(json!({ "rootfs": { "diff_ids": ["y"] } }), Vec::new());
    let show = |entries| image_of(entries).shown(&nothing);
    let one = show(&[
        (Regular, "a/f", 0o644, "x"),
        (Link, "g", 0o644, "a/f"),
        (Symlink, "l", 0o777, "f"),
    ]);
    let wanted = json!({
        "config": { "User": "5" },
        "history": [{ "created_by": "RUN true" }],
        "tree": { "/a/f": "f 0644 7:7 7 \"x\"", "/g": "f 0644 7:7 7 \"x\" = /a/f", "/l": "l 7:7 7 -> f" },
    });
    assert_eq!(one, wanted);
    assert!(differences(&one, &wanted).is_empty());
    for (other, place) in [
        (
            show(&[
                (Regular, "a/f", 0o600, "x"),
                (Link, "g", 0o600, "a/f"),
                (Symlink, "l", 0o777, "f"),
            ]),
            "tree /a/f",
        ),
        (
            show(&[
                (Regular, "a/f", 0o644, "x"),
                (Regular, "g", 0o644, "x"),
                (Symlink, "l", 0o777, "f"),
            ]),
            "tree /g",
        ),
        (
            show(&[
                (Regular, "a/f", 0o644, "x"),
                (Link, "g", 0o644, "a/f"),
                (Symlink, "l", 0o777, "a/f"),
            ]),
            "tree /l",
        ),
        (
            show(&[
                (Regular, "a/f", 0o644, "x"),
                (Link, "g", 0o644, "a/f"),
                (Regular, ".wh.l", 0o644, ""),
            ]),
            "tree /l",
        ),
        (
            json!({ "config": {}, "history": one["history"], "tree": one["tree"] }),
            "config User",
        ),
        (
            json!({ "config": one["config"], "history": [{}], "tree": one["tree"] }),
            "history 0 created_by",
        ),
        (json!({ "fails": "why" }), "config"),
    ] {
        let found = differences(&one, &other);
        assert_eq!(
            found.first().map(|found| found.place.as_str()),
            Some(place),
            "{other}"
        );
    }
}
