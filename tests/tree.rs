//! Is the tree in a container, path by path, what podman shows of the same image?
//!
//! `scripts/images.sh trees` lists podman's (the kernel's overlayfs over unpacked layers, as root) with
//! `examples/list-tree.rs`; here the same program lists it in a container. Type, mode, owner, size, mtime, link
//! target, device, xattrs and content are compared.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::collections::BTreeMap;

use common::{Bryo, has_id_range, lister_directory};

/// What a runtime lays over the image, so that only one side shows what is there; and `/`, whose own mode and mtime
/// podman invents when no layer names it.
const LAID_OVER: [&str; 7] = [
    "/",
    "/dev",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
];

fn is_laid_over(path: &str) -> bool {
    LAID_OVER.contains(&path)
        || ["/dev/", "/proc/", "/sys/"]
            .iter()
            .any(|above| path.starts_with(above))
}

fn parse(listing: &str) -> BTreeMap<String, String> {
    let lines = listing.lines().map(|line| line.split_once('\t').unwrap());
    let own = lines.filter(|(path, _)| !is_laid_over(path));
    own.map(|(path, rest)| (path.to_owned(), rest.to_owned()))
        .collect()
}

/// What a user without an id range sees of a line: ids outside the map appear as root, without setuid and setgid.
fn with_one_id(line: &str) -> String {
    let mut fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if fields[2] != "0:0" {
        fields[2] = "0:0".to_owned();
        let mode = u32::from_str_radix(&fields[1], 8).unwrap();
        fields[1] = format!("{:04o}", mode & !0o6000);
    }
    fields.join(" ")
}

fn compare(image: &str, podman: &str) {
    let expected = common::images().join(podman);
    let expected =
        std::fs::read_to_string(&expected).unwrap_or_else(|error| panic!("{}: {error}", expected.display()));
    let mut expected = parse(&expected);
    // podman raises times before 1970 to 1970; the tar has the file's own, and so has Bryo.
    if let Some(line) = expected.get_mut("/odd/times/before") {
        *line = line.replace(" 0.000000000 ", " -157668955.000000000 ");
    }
    if !has_id_range() {
        expected.values_mut().for_each(|line| *line = with_one_id(line));
    }
    let (bryo, image) = Bryo::with_image(image);
    // Where no directory of the image is made or covered for it.
    let volume = format!("{}:/dev/lister:ro", lister_directory());
    let lister = "/dev/lister/list-tree";
    let shown = parse(&bryo.ok(["run", "--rm", "-v", &volume, &image, lister, "/"]));
    assert!(expected.contains_key("/run"), "podman's list has it");
    let mut differences: Vec<String> = Vec::new();
    for (path, line) in &expected {
        match shown.get(path) {
            None => differences.push(format!("only podman has {path}\t{line}")),
            Some(ours) if ours != line => {
                differences.push(format!("{path}\n  podman {line}\n  bryo   {ours}"))
            }
            Some(_) => {}
        }
    }
    let only_ours = shown.iter().filter(|(path, _)| !expected.contains_key(*path));
    differences.extend(only_ours.map(|(path, line)| format!("only bryo has {path}\t{line}")));
    let count = differences.len();
    differences.truncate(40);
    assert!(
        count == 0,
        "{image}: {count} of {} paths differ:\n{}",
        expected.len(),
        differences.join("\n")
    );
    assert!(
        expected.len() > 300,
        "{image}: podman's list is too short to say anything"
    );
}

#[test]
fn odd_image_as_docker_writes_it() {
    compare("odd", "odd.tree");
}

#[test]
fn odd_image_in_oci_form() {
    compare("odd:oci", "odd.tree");
}

#[test]
fn odd_image_in_zstd_layers() {
    compare("odd:zstd", "odd.tree");
}

#[test]
fn debian() {
    compare("debian:12", "debian.tree");
}

/// Packages as users install them: 1.2 GB in tens of thousands of files.
#[test]
fn debian_with_software() {
    compare("software", "software.tree");
}

#[test]
fn hard_links_of_one_layer_are_one_file() {
    let (bryo, image) = Bryo::with_image("odd");
    let inodes = bryo.sh(
        &image,
        "cd /odd/links; stat -c '%i %h' fifo fifo-too soft soft-too",
    );
    let inodes: Vec<&str> = inodes.lines().collect();
    assert_eq!(inodes[0], inodes[1]);
    assert_eq!(inodes[2], inodes[3]);
    assert!(inodes[0].ends_with(" 2"), "{inodes:?}");
    bryo.sh(
        &image,
        "cd /odd/links; echo more >> from-above; cmp from-above sub/c; grep more sub/c",
    );
}
