//! `--output`: a tree in a directory or a tar, and no image.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use crate::common::{Done, Project, mode};

const TEXT: &str = "FROM base AS made\n\
    RUN mkdir -p /out/dir && echo content > /out/dir/file && chmod 750 /out/dir/file && ln -s dir/file /out/link \
    && ln /out/dir/file /out/second && echo s > /out/set && chmod 4711 /out/set\n\
    FROM scratch\n\
    COPY --from=made --chown=7:8 /out /\n";

#[test]
fn a_tree_goes_into_a_directory() {
    let project = Project::new();
    let out = project.bryo.scratch("out");
    fs::create_dir(&out).unwrap();
    mode(&out, 0o700);
    // What an earlier tree could have left: links that lead elsewhere, at names of files and of directories.
    let elsewhere = project.bryo.scratch("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("kept"), "kept").unwrap();
    symlink(&elsewhere, out.join("dir")).unwrap();
    symlink(elsewhere.join("kept"), out.join("second")).unwrap();
    fs::write(out.join("link"), "in the way").unwrap();
    fs::write(out.join("other"), "other").unwrap();
    for flags in [
        vec![format!("--output={}", out.display())],
        vec!["-o".into(), format!("type=local,dest={}", out.display())],
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let done = Done::of(&mut project.command(TEXT, &flags));
        assert!(done.status.success() && done.stdout.is_empty(), "{done}");
        let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(
            read("dir/file") + &read("link") + &read("second") + &read("other"),
            "content\n".repeat(3) + "other"
        );
        assert_eq!(
            fs::read_link(out.join("link")).unwrap().to_str(),
            Some("dir/file")
        );
        let file = fs::symlink_metadata(out.join("dir/file")).unwrap();
        assert_eq!(
            (file.permissions().mode() & 0o7777, file.uid()),
            (0o750, nix::unistd::getuid().as_raw())
        );
        assert_eq!(
            fs::metadata(out.join("set")).unwrap().permissions().mode() & 0o7777,
            0o711
        );
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(elsewhere.join("kept")).unwrap(), "kept");
    }
    assert!(!project.bryo.ok(["images"]).contains("made"), "no image is made");
    project.is_clean();
}

#[test]
fn a_tree_becomes_a_tar() {
    let project = Project::new();
    let file = project.bryo.scratch("tree.tar");
    let to = format!("type=tar,dest={}", file.display());
    assert!(
        Done::of(&mut project.command(TEXT, &["-o", &to]))
            .status
            .success()
    );
    let mut list = Command::new("tar");
    list.args(["--numeric-owner", "-tvf"]).arg(&file);
    let listed = Done::of(&mut list).stdout;
    let found: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        })
        .collect();
    let wanted = [
        "drwxr-xr-x 7/8 dir/",
        "-rwxr-x--- 7/8 dir/file",
        "lrwxrwxrwx 7/8 link -> dir/file",
        "hrwxr-x--- 7/8 second link to dir/file",
        "-rws--x--x 7/8 set",
    ];
    for line in wanted {
        assert!(found.iter().any(|found| found == line), "{line}: {listed}");
    }
    let piped = project.command(TEXT, &["-q", "-o", "-"]).output().unwrap();
    assert!(piped.status.success());
    assert!(piped.stdout == fs::read(&file).unwrap(), "the same bytes");
    // Of the whole of an image: another program finds all of it.
    let to = format!("type=tar,dest={}", file.display());
    assert!(
        Done::of(&mut project.command("FROM base\n", &["-o", &to]))
            .status
            .success()
    );
    let mut list = Command::new("tar");
    let count = Done::of(list.arg("-tf").arg(&file)).stdout.lines().count();
    project.build("FROM base\n", &[]);
    let shown: usize = project.sh("find / -xdev | wc -l").trim().parse().unwrap();
    assert!(count > 3 && count <= shown + 1, "{count} of {shown}");
    project.is_clean();
}

#[test]
fn places_that_mean_nothing_are_refused() {
    let project = Project::new();
    for (to, why) in [
        ("type=local", "a directory is missing"),
        ("type=oci,dest=x", "type oci is not supported yet"),
        ("dest=x", "the type is missing"),
        ("type=tar,color=red", "expected type="),
    ] {
        let done = Done::of(&mut project.command("FROM base\n", &["-o", to]));
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(done.stderr.contains(why), "{done}");
    }
    let full = Done::of(&mut project.command("FROM base\n", &["-o", "type=tar,dest=/dev/full"]));
    assert_eq!(full.status.code(), Some(1), "{full}");
    assert!(
        full.stderr.contains("cannot write /dev/full: No space left"),
        "{full}"
    );
    project.is_clean();
}
