//! `cp` and `export`: by Docker's rules, alike whether the container runs or not, and safe from what is in it.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Bryo, Done, Podman, has_id_range};

/// A container `runs` and another, `stands`, that was only made.
fn two() -> Bryo {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "-d", "--name", "runs", &image, "sleep", "1000"]);
    bryo.ok(["create", "--name", "stands", &image, "sleep", "1000"]);
    bryo
}

const BOTH: [&str; 2] = ["runs", "stands"];

/// What a tar lists, without times; names alone.
fn listed(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    let mut lines: Vec<String> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let link = entry
                .link_name()
                .unwrap()
                .map_or(String::new(), |link| format!(" {}", link.display()));
            let (mode, uid, gid) = (
                header.mode().unwrap() & 0o7777,
                header.uid().unwrap(),
                header.gid().unwrap(),
            );
            let kind = char::from(header.entry_type().as_byte());
            format!(
                "{kind} {} {mode:o} {uid}:{gid}{link}",
                entry.path().unwrap().display()
            )
        })
        .collect();
    lines.sort();
    lines
}

fn tar_of(bryo: &Bryo, from: &str) -> Vec<u8> {
    let output = bryo.command(["cp", from, "-"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn fed(bryo: &Bryo, tar: &[u8], to: &str, flags: &[&str]) -> Done {
    let file = bryo.scratch("fed.tar");
    fs::write(&file, tar).unwrap();
    let mut words = vec!["cp"];
    words.extend(flags);
    words.extend(["-", to]);
    Done::of(bryo.command(words).stdin(fs::File::open(file).unwrap()))
}

/// What a container's files are called is shown, and steers no terminal.
#[test]
fn names_in_warnings_are_harmless() {
    let bryo = two();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Char);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    tar.append_data(&mut header, "a\x1b]0;title\x07", std::io::empty())
        .unwrap();
    let done = fed(&bryo, &tar.into_inner().unwrap(), "runs:/tmp", &[]);
    assert!(done.status.success(), "{done}");
    assert!(done.stderr.contains("]0;title"), "{done}");
    assert!(!done.stderr.contains(['\x1b', '\x07']), "{done}");
}

/// A directory with one of each kind of file that an ordinary user can make.
fn one_of_each(dir: &Path) {
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("a"), "a\n").unwrap();
    fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(dir.join("a"), dir.join("hard")).unwrap();
    symlink("a", dir.join("l")).unwrap();
    symlink("/nowhere", dir.join("dangling")).unwrap();
    fs::write(dir.join("sub/b"), "b\n").unwrap();
    fs::write(dir.join(format!("sub/{}", "n".repeat(200))), "long\n").unwrap();
    fs::set_permissions(dir.join("sub/b"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(dir.join("sub"), fs::Permissions::from_mode(0o555)).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o622)).unwrap();
    let old = Command::new("touch").args(["-d", "2001-01-01"]).arg(dir).status();
    assert!(old.unwrap().success());
}

#[test]
fn a_directory_goes_in_and_out_as_it_is() {
    let bryo = two();
    let dir = bryo.scratch("d");
    one_of_each(&dir);
    let from = dir.display().to_string();
    let long = "n".repeat(200);
    for name in BOTH {
        bryo.ok(["cp", &from, &format!("{name}:/tmp/d")]);
        let tar = tar_of(&bryo, &format!("{name}:/tmp/d"));
        let expected = [
            "0 d/a 640 0:0".into(),
            format!("0 d/sub/{long} 644 0:0"),
            "0 d/sub/b 4755 0:0".into(),
            "1 d/hard 640 0:0 d/a".into(),
            "2 d/dangling 777 0:0 /nowhere".into(),
            "2 d/l 777 0:0 a".into(),
            "5 d/ 755 0:0".into(),
            "5 d/sub/ 555 0:0".into(),
            "6 d/fifo 622 0:0".into(),
        ];
        let mut expected = expected.to_vec();
        expected.sort();
        // The umask of the test decides these.
        let mode = |path: &str| fs::symlink_metadata(dir.join(path)).unwrap().mode() & 0o7777;
        let expected: Vec<String> = expected
            .iter()
            .map(|line| line.replace("d/ 755", &format!("d/ {:o}", mode(""))))
            .map(|line| line.replace("fifo 622", &format!("fifo {:o}", mode("fifo"))))
            .map(|line| line.replace("n 644", &format!("n {:o}", mode(&format!("sub/{long}")))))
            .collect();
        assert_eq!(listed(&tar), expected, "{name}");
        let out = bryo.scratch(name);
        bryo.ok(["cp", &format!("{name}:/tmp/d"), &out.display().to_string()]);
        let found = |path: &str| fs::symlink_metadata(out.join(path)).unwrap();
        assert_eq!(fs::read_to_string(out.join("sub").join(&long)).unwrap(), "long\n");
        assert_eq!(found("a").ino(), found("hard").ino());
        assert_eq!(
            fs::read_link(out.join("dangling")).unwrap(),
            Path::new("/nowhere")
        );
        assert_eq!(found("").mtime(), 978_307_200, "its time");
        assert_eq!(found("sub").mode() & 0o7777, 0o555);
        // What a container chose would be the user's own program.
        assert_eq!(found("sub/b").mode() & 0o7777, 0o755, "no set-id bit");
        assert_eq!(found("a").uid(), nix::unistd::getuid().as_raw());
        fs::set_permissions(out.join("sub"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(dir.join("sub"), fs::Permissions::from_mode(0o755)).unwrap();
    // The container that stood goes on with it.
    bryo.ok(["start", "stands"]);
    assert_eq!(bryo.ok(["exec", "stands", "cat", "/tmp/d/sub/b"]), "b\n");
    assert_eq!(bryo.ok(["exec", "stands", "stat", "-c", "%h", "/tmp/d/a"]), "2\n");
}

/// Each case: source, destination, and what is there then; or what is said. `C:` is the container.
#[test]
fn names_follow_dockers_rules() {
    let bryo = two();
    let top = bryo.scratch("work");
    fs::create_dir_all(top.join("dir")).unwrap();
    fs::create_dir_all(top.join("there")).unwrap();
    fs::write(top.join("dir/x"), "x\n").unwrap();
    fs::write(top.join("file"), "file\n").unwrap();
    symlink("dir", top.join("link")).unwrap();
    symlink("file", top.join("to-file")).unwrap();
    let good: &[(&str, &str, &str)] = &[
        ("file", "C:/tmp", "/tmp/file"),
        ("file", "C:/tmp/", "/tmp/file"),
        ("file", "C:/tmp/as", "/tmp/as"),
        ("file", "C:tmp/relative", "/tmp/relative"),
        ("dir", "C:/tmp", "/tmp/dir/x"),
        ("dir", "C:/tmp/new", "/tmp/new/x"),
        ("dir", "C:/tmp/new2/", "/tmp/new2/x"),
        ("dir/.", "C:/tmp/content", "/tmp/content/x"),
        ("dir/.", "C:/home", "/home/x"),
        ("dir/", "C:/tmp/new", "/tmp/new/dir/x"),
        // A symlink is followed where it must be, or if it is asked for.
        ("link/", "C:/tmp/linked", "/tmp/linked/x"),
        ("-L link", "C:/tmp/followed", "/tmp/followed/x"),
        ("-L to-file", "C:/tmp", "/tmp/to-file"),
        ("C:/tmp/as", "out", "out"),
        ("C:/tmp/dir", "there", "there/dir/x"),
        ("C:/tmp/dir/.", "there", "there/x"),
        ("C:/tmp/dir", "fresh", "fresh/x"),
    ];
    let bad: &[(&str, &str, &str)] = &[
        ("file", "C:/no/", "no such directory"),
        ("file", "C:/no/such", "No such file"),
        ("file", "C:/etc/passwd/", "not a directory"),
        ("file/", "C:/tmp", "Not a directory"),
        ("missing", "C:/tmp", "No such file"),
        ("dir", "C:/etc/passwd", "a directory cannot be copied over it"),
        ("C:/tmp/dir", "file", "a directory cannot be copied over it"),
        ("C:/missing", "out", "No such file"),
        ("C:/etc/passwd", "no/such", "No such file"),
        ("C:/etc/passwd", "no/", "no such directory"),
        ("C:", "out", "cannot be empty"),
        (":/x", "out", "name is missing"),
        ("nosuch:/x", "out", "No such container: nosuch"),
    ];
    for name in BOTH {
        for entry in ["there", "out", "fresh"] {
            let path = top.join(entry);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
        }
        fs::create_dir(top.join("there")).unwrap();
        let run = |from: &str, to: &str| {
            let words = from
                .split(' ')
                .chain([to])
                .map(|word| word.replace("C:", &format!("{name}:")));
            let mut words: Vec<String> = words.collect();
            words.insert(0, "cp".into());
            Done::of(bryo.command(&words).current_dir(&top))
        };
        for (from, to, there) in good {
            let done = run(from, to);
            assert!(done.status.success(), "{done}");
            match there.starts_with('/') {
                true => assert!(
                    !tar_of(&bryo, &format!("{name}:{there}")).is_empty(),
                    "{name} {there}"
                ),
                false => assert!(top.join(there).is_file(), "{name} {there}"),
            }
        }
        for (from, to, said) in bad {
            let done = run(from, to);
            assert_eq!(done.status.code(), Some(1), "{done}");
            assert!(done.stderr.contains(said), "{said}: {done}");
            assert_eq!(done.stderr.lines().count(), 1, "{done}");
        }
        // A symlink as the source is itself.
        let done = run("link", "C:/tmp/itself");
        assert!(done.status.success(), "{done}");
        let tar = tar_of(&bryo, &format!("{name}:/tmp/itself"));
        assert_eq!(listed(&tar), ["2 itself 777 0:0 dir"]);
        // One at the destination is followed, within the container, also to what is not there yet.
        symlink("/tmp/target", top.join("absolute")).ok();
        run("absolute", "C:/tmp/absolute");
        let done = run("file", "C:/tmp/absolute");
        assert!(done.status.success(), "{done}");
        assert_eq!(listed(&tar_of(&bryo, &format!("{name}:/tmp/target"))).len(), 1);
    }
    let none = bryo.fails(1, ["cp", "a", "b"]);
    assert!(
        none.contains("must specify at least one container source"),
        "{none}"
    );
}

#[test]
fn archives_come_from_standard_input() {
    let bryo = two();
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, uid: u64, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_uid(uid);
        header.set_gid(uid);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    // Without entries of the directories above; /bin may be a symlink there.
    add("bin/tool", 7, b"tool\n");
    add("made/for/it", 7, b"it\n");
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    for name in BOTH {
        for bytes in [&tar, &gzip] {
            let done = fed(&bryo, bytes, &format!("{name}:/"), &[]);
            assert!(done.status.success(), "{done}");
        }
        assert_eq!(
            listed(&tar_of(&bryo, &format!("{name}:/bin/tool"))),
            ["0 tool 600 0:0"]
        );
        assert_eq!(
            listed(&tar_of(&bryo, &format!("{name}:/made"))),
            ["0 made/for/it 600 0:0", "5 made/ 755 0:0", "5 made/for/ 755 0:0"]
        );
        let kept = fed(&bryo, &tar, &format!("{name}:/"), &["-a"]);
        match has_id_range() || name == "stands" {
            true => {
                assert!(kept.status.success(), "{kept}");
                assert_eq!(
                    listed(&tar_of(&bryo, &format!("{name}:/bin/tool"))),
                    ["0 tool 600 7:7"]
                );
            }
            false => assert!(kept.stderr.contains("its owner 7:7 does not exist"), "{kept}"),
        }
        let missing = fed(&bryo, &tar, &format!("{name}:/nowhere"), &[]);
        assert!(missing.stderr.contains("no such directory"), "{missing}");
        let nothing = fed(&bryo, b"", &format!("{name}:/"), &[]);
        assert!(nothing.stderr.contains("standard input is empty"), "{nothing}");
        // Cut, it is no success.
        let cut = fed(&bryo, &tar[..700], &format!("{name}:/"), &[]);
        assert_eq!(cut.status.code(), Some(1), "{cut}");
    }
}

#[test]
fn an_archive_leads_nowhere_else() {
    let bryo = two();
    let outside = bryo.scratch("outside");
    fs::create_dir(&outside).unwrap();
    let entry = |path: &str, link: Option<(&str, tar::EntryType)>| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some((target, kind)) = link {
            header.set_entry_type(kind);
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        tar.into_inner().unwrap()
    };
    let up = entry("../../../../escaped", None);
    let hard = entry("hard", Some(("../../etc/passwd", tar::EntryType::Link)));
    for name in BOTH {
        for tar in [&up, &hard] {
            let done = fed(&bryo, tar, &format!("{name}:/tmp"), &[]);
            assert_eq!(done.status.code(), Some(1), "{done}");
            assert!(done.stderr.contains("would lead out"), "{done}");
        }
        // A symlink to a directory of the host leads to one of the container, which is not there.
        let to = outside.display().to_string();
        let link = entry("way", Some((&to, tar::EntryType::Symlink)));
        assert!(fed(&bryo, &link, &format!("{name}:/tmp"), &[]).status.success());
        let through = fed(&bryo, &entry("way/file", None), &format!("{name}:/tmp"), &[]);
        assert_eq!(through.status.code(), Some(1), "{through}");
        for path in ["/tmp/way/secret", "/tmp/way"] {
            fs::write(outside.join("secret"), "secret").unwrap();
            let out = bryo.scratch("got");
            bryo.run(["cp", "-L", &format!("{name}:{path}"), &out.display().to_string()]);
            assert!(!out.exists(), "{name} {path}");
            fs::remove_file(outside.join("secret")).unwrap();
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}");
    }
}

/// CVE-2018-15664: whoever swaps a directory for a symlink while it is walked.
#[test]
fn swapped_symlinks_lead_nowhere_else() {
    let (bryo, image) = Bryo::with_image("busybox");
    let outside = bryo.scratch("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "secret").unwrap();
    let script = format!(
        "mkdir -p /w/real; echo mine > /w/real/file; ln -s {} /w/link; echo ready;
         while :; do mv -T /w/real /w/at; mv -T /w/at /w/real; mv -T /w/link /w/at; mv -T /w/at /w/link; done",
        outside.display()
    );
    bryo.ok(["run", "-d", "--name", "swaps", &image, "sh", "-c", &script]);
    common::until("it swaps", || bryo.ok(["logs", "swaps"]) == "ready\n");
    let put = bryo.scratch("file");
    fs::write(&put, "put").unwrap();
    let (mut read, out) = (0, bryo.scratch("out"));
    // On a busy machine it may be away at each look.
    for round in 0..300 {
        if round >= 15 && read > 0 {
            break;
        }
        let _ = fs::remove_file(&out);
        bryo.run(["cp", "swaps:/w/at/file", &out.display().to_string()]);
        if let Ok(text) = fs::read_to_string(&out) {
            assert!(text == "mine\n" || text == "put", "{text}");
            read += 1;
        }
        bryo.run(["cp", &put.display().to_string(), "swaps:/w/at/file"]);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "secret");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
    assert!(read > 0, "never was it there to be read");
}

/// What is on the host in the way of a copy is not followed: whoever put it there would choose where files go.
#[test]
fn symlinks_on_the_host_are_not_written_through() {
    let bryo = two();
    bryo.ok([
        "exec",
        "runs",
        "sh",
        "-c",
        "mkdir -p /d/sub; echo x > /d/sub/x; echo y > /d/y",
    ]);
    let (out, other) = (bryo.scratch("out"), bryo.scratch("other"));
    fs::create_dir_all(out.join("d")).unwrap();
    fs::create_dir(&other).unwrap();
    symlink(&other, out.join("d/sub")).unwrap();
    fs::write(other.join("kept"), "kept").unwrap();
    symlink(other.join("kept"), out.join("d/y")).unwrap();
    let error = bryo.fails(1, ["cp", "runs:/d", &out.display().to_string()]);
    assert!(error.contains("cannot replace what is no directory"), "{error}");
    fs::remove_file(out.join("d/sub")).unwrap();
    bryo.ok(["cp", "runs:/d", &out.display().to_string()]);
    assert_eq!(fs::read_to_string(other.join("kept")).unwrap(), "kept");
    assert!(
        fs::symlink_metadata(out.join("d/y")).unwrap().is_file(),
        "replaced"
    );
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}

#[test]
fn between_two_containers_owners_are_kept_if_asked() {
    let bryo = two();
    let script = "mkdir /d; echo x > /d/x; chown -R 5:6 /d";
    if has_id_range() {
        bryo.ok(["exec", "runs", "sh", "-c", script]);
        bryo.ok(["cp", "-a", "runs:/d", "stands:/kept"]);
        assert_eq!(
            listed(&tar_of(&bryo, "stands:/kept")),
            ["0 kept/x 644 5:6", "5 kept/ 755 5:6"]
        );
        bryo.ok(["cp", "-a", "stands:/kept", "runs:/back"]);
        assert_eq!(
            bryo.ok(["exec", "runs", "stat", "-c", "%u:%g", "/back/x"]),
            "5:6\n"
        );
        bryo.ok(["cp", "runs:/d", "stands:/roots"]);
    } else {
        bryo.ok(["exec", "runs", "sh", "-c", "mkdir /d; echo x > /d/x"]);
        bryo.ok(["cp", "runs:/d", "stands:/roots"]);
    }
    assert_eq!(
        listed(&tar_of(&bryo, "stands:/roots")),
        ["0 roots/x 644 0:0", "5 roots/ 755 0:0"]
    );
}

#[test]
fn mounts_are_there_while_it_runs() {
    let (bryo, image) = Bryo::with_image("busybox");
    let data = bryo.scratch("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("x"), "x\n").unwrap();
    let bind = format!("{}:/data", data.display());
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        "-v",
        &bind,
        "--mount",
        "type=tmpfs,target=/memory",
        &image,
        "sleep",
        "1000",
    ]);
    let file = bryo.scratch("new");
    fs::write(&file, "new\n").unwrap();
    let new = file.display().to_string();
    bryo.ok(["cp", &new, "one:/data/"]);
    assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "new\n");
    assert_eq!(listed(&tar_of(&bryo, "one:/data")).len(), 3);
    bryo.ok(["cp", &new, "one:/memory/"]);
    assert_eq!(bryo.ok(["exec", "one", "cat", "/memory/new"]), "new\n");
    // What a file is mounted on gets its content.
    bryo.ok(["cp", &new, "one:/etc/hosts"]);
    assert_eq!(bryo.ok(["exec", "one", "cat", "/etc/hosts"]), "new\n");
    bryo.ok(["stop", "-t0", "one"]);
    for (from, to) in [("one:/memory", "out"), (new.as_str(), "one:/memory/y")] {
        let to = to.replace("out", &bryo.scratch("out").display().to_string());
        let error = bryo.fails(1, ["cp", from, &to]);
        assert!(error.contains("mounted at /memory"), "{error}");
    }
    assert!(!bryo.scratch("out").exists());
}

#[test]
fn what_a_container_will_mount_is_reached_while_it_does_not_run() {
    let (bryo, image) = Bryo::with_image("busybox");
    let (host, file) = (bryo.scratch("host"), bryo.scratch("new"));
    fs::create_dir_all(host.join("deep")).unwrap();
    fs::write(&file, "new\n").unwrap();
    fs::write(bryo.scratch("secret"), "secret\n").unwrap();
    symlink("../secret", host.join("out")).unwrap();
    let bind = format!("{}:/data/host", host.display());
    let (device, options) = (format!("device={}", host.display()), ["volume", "create"]);
    let options = options
        .into_iter()
        .chain(["-o", "type=none", "-o", "o=bind,ro", "-o", &device, "read"]);
    bryo.ok(options);
    // As it is common in CI: a container that only holds a volume.
    bryo.ok([
        "create",
        "--name",
        "one",
        "-v",
        "stuff:/data",
        "-v",
        &bind,
        "-v",
        "stuff:/fixed:ro",
        "-v",
        "read:/read",
        &image,
        "true",
    ]);
    let new = file.display().to_string();
    bryo.ok(["cp", &new, "one:/data"]);
    bryo.ok(["cp", &new, "one:/data/other"]);
    bryo.ok(["cp", &host.join("deep").display().to_string(), "one:data/./"]);
    let script = "cd /data; cat new other; stat -c '%n %u:%g' new deep; echo mine > mine; chmod 0 mine";
    let said = bryo.ok(["run", "--rm", "-v", "stuff:/data", &image, "sh", "-c", script]);
    assert_eq!(said, "new\nnew\nnew 0:0\ndeep 0:0\n");
    // Also what only the container's root may read.
    assert_eq!(listed(&tar_of(&bryo, "one:/data/mine")), ["0 mine 0 0:0"],);
    let names = listed(&tar_of(&bryo, "one:/data"));
    let names: Vec<&str> = names.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    let names = names.join(" ");
    assert_eq!(names, "data/mine data/new data/other data/ data/deep/");
    let told = bryo.run(["cp", "one:/data", &bryo.scratch("whole").display().to_string()]);
    let left_out = "what is mounted at /data/host is left out";
    assert!(told.status.success() && told.stderr.contains(left_out), "{told}");

    // The image's symlinks lead to mounts, too: what is below one would be seen by nobody.
    let script = "mkdir -p /real/in; ln -s /real /way";
    bryo.ok(["run", "--name", "led", &image, "sh", "-c", script]);
    bryo.ok(["commit", "led", "led"]);
    bryo.ok(["create", "--name", "two", "-v", "stuff:/way/in", "led", "true"]);
    for place in ["two:/real/in/file", "two:/way/../real/in/file"] {
        let error = bryo.fails(1, ["cp", &new, place]);
        assert!(error.contains("something is mounted at /way/in"), "{error}");
    }
    bryo.ok(["cp", &new, "two:/way/in/led"]);
    bryo.ok(["cp", &new, "two:/way/beside"]);

    // A directory of the host's is nearer than the volume that it is in, and its links lead no further than it.
    bryo.ok(["cp", &new, "one:/data/host/deep/"]);
    assert_eq!(fs::read_to_string(host.join("deep/new")).unwrap(), "new\n");
    let error = bryo.fails(1, ["cp", "-L", "one:/data/host/out", "-"]);
    assert!(error.contains("No such file"), "{error}");
    bryo.ok(["cp", &new, "one:/data/host/out"]);
    assert_eq!(fs::read_to_string(bryo.scratch("secret")).unwrap(), "secret\n");

    // As its container's flags say, or the volume itself.
    for place in ["one:/fixed/", "one:/read/"] {
        let error = bryo.fails(1, ["cp", &new, place]);
        assert!(error.contains("it is mounted read-only"), "{error}");
    }
    assert!(!host.join("new").exists());
    bryo.ok([
        "cp",
        "one:/fixed/other",
        &bryo.scratch("got").display().to_string(),
    ]);
    assert_eq!(fs::read_to_string(bryo.scratch("got")).unwrap(), "new\n");
}

#[test]
fn a_read_only_root_stays_as_it_is() {
    let (bryo, image) = Bryo::with_image("busybox");
    let file = bryo.scratch("new");
    fs::write(&file, "new\n").unwrap();
    let new = file.display().to_string();
    bryo.ok([
        "run",
        "-d",
        "--read-only",
        "--name",
        "one",
        &image,
        "sleep",
        "1000",
    ]);
    let error = bryo.fails(1, ["cp", &new, "one:/root/"]);
    assert!(error.contains("Read-only file system"), "{error}");
    bryo.ok(["stop", "-t0", "one"]);
    let error = bryo.fails(1, ["cp", &new, "one:/root/"]);
    assert!(error.contains("read-only"), "{error}");
    assert_eq!(bryo.ok(["diff", "one"]), "");
}

#[test]
fn big_files_with_holes_arrive() {
    let bryo = two();
    let file = bryo.scratch("holes");
    let made = fs::File::create(&file).unwrap();
    made.set_len(9 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&made, b"end", (9 << 20) - 3).unwrap();
    drop(made);
    let sum = |text: &str| text.split(' ').next().unwrap().to_string();
    let own = Command::new("sha256sum").arg(&file).output().unwrap();
    let own = sum(&String::from_utf8(own.stdout).unwrap());
    let from = file.display().to_string();
    bryo.ok(["cp", &from, "runs:/holes"]);
    assert_eq!(sum(&bryo.ok(["exec", "runs", "sha256sum", "/holes"])), own);
    bryo.ok(["cp", "runs:/holes", "stands:/holes"]);
    let back = bryo.scratch("back");
    bryo.ok(["cp", "stands:/holes", &back.display().to_string()]);
    assert_eq!(fs::read(&back).unwrap(), fs::read(&file).unwrap());
}

/// Two at once, and a command that finds the container in use, lose nothing.
#[test]
fn copies_at_once_all_arrive() {
    let bryo = two();
    let file = bryo.scratch("f");
    fs::write(&file, vec![7; 1 << 20]).unwrap();
    let from = file.display().to_string();
    let children: Vec<_> = (0..6)
        .map(|at| {
            let to = format!("stands:/{at}");
            let mut command = bryo.command(["cp", &from, &to]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let changed = bryo.ok(["diff", "stands"]);
    assert_eq!(changed.lines().count(), 6, "{changed}");
    bryo.ok(["start", "stands"]);
    assert_eq!(
        bryo.ok(["exec", "stands", "sh", "-c", "cat /0 /5 | wc -c"]),
        "2097152\n"
    );
}

/// While something is copied into it, a container is not started, nor is it said to be.
#[test]
fn a_start_waits_for_a_copy() {
    let bryo = two();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    tar.append_data(&mut header, "late", &b"in\n"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut copy = bryo
        .command(["cp", "-", "stands:/"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = copy.stdin.take().unwrap();
    input.write_all(&tar[..600]).unwrap();
    let lock = fs::canonicalize(bryo.state()).unwrap().join("containers");
    let id = bryo.ok(["inspect", "-f", "{{.Id}}", "stands"]);
    let held = || {
        let lock = fs::File::open(lock.join(id.trim()).join("lock")).unwrap();
        let taken = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        taken.is_err()
    };
    common::until("it holds the container", held);
    let mut start = bryo
        .command(["start", "stands"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(start.try_wait().unwrap(), None, "it waits");
    input.write_all(&tar[600..]).unwrap();
    drop(input);
    assert!(copy.wait().unwrap().success());
    assert!(start.wait().unwrap().success());
    assert_eq!(bryo.ok(["exec", "stands", "cat", "/late"]), "in\n");
}

#[test]
fn export_is_the_whole_tree() {
    let bryo = two();
    for name in BOTH {
        bryo.ok(["cp", "/etc/hostname", &format!("{name}:/etc/new")]);
    }
    bryo.ok(["exec", "runs", "rm", "/etc/group"]);
    for name in BOTH {
        let file = bryo.scratch("tree.tar");
        bryo.ok(["export", "-o", &file.display().to_string(), name]);
        let to_file = fs::read(&file).unwrap();
        let output = bryo.command(["export", name]).output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, to_file);
        let lines = listed(&to_file);
        let has = |path: &str| lines.iter().any(|line| line.split(' ').nth(1) == Some(path));
        assert!(
            has("etc/new") && has("bin/busybox") || has("usr/bin/busybox"),
            "{lines:?}"
        );
        assert_eq!(has("etc/group"), name == "stands");
    }
    let error = bryo.fails(1, ["export", "nosuch"]);
    assert!(error.contains("No such container"), "{error}");
    let error = bryo.fails(1, ["export", "-o", "/no/such/file", "runs"]);
    assert!(error.contains("/no/such/file"), "{error}");
}

/// The same commands on both: what comes out is the same, by name, mode, owner and link.
#[test]
fn podman_imports_it_and_copies_alike() {
    let bryo = two();
    let podman = Podman::beside(&bryo);
    let told = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?} {output:?}");
        output.stdout
    };
    let tree = bryo.scratch("tree.tar").display().to_string();
    bryo.ok(["export", "-o", &tree, "stands"]);
    let imported = told(podman.command().args(["import", "-q", &tree, "theirs"]));
    assert!(!imported.is_empty());
    told(
        podman
            .command()
            .args(["create", "--name", "stands", "theirs", "true"]),
    );
    let exported = told(podman.command().args(["export", "stands"]));
    // Podman adds what it mounts on.
    // Which of a file's names is the first, the order decides.
    let alike = |tar: &[u8]| -> Vec<String> {
        let lines = listed(tar).into_iter();
        let mut lines: Vec<String> = lines
            .map(|line| match line.strip_prefix("1 ") {
                Some(rest) => format!("0 {}", rest.rsplit_once(' ').unwrap().0),
                None => line.replacen("/ ", " ", 1),
            })
            .collect();
        lines.sort();
        lines
    };
    let theirs = alike(&exported);
    for line in alike(&fs::read(&tree).unwrap()) {
        let has = theirs.contains(&line) || line.contains(" . ");
        assert!(
            has || [" etc", " dev", " proc", " sys", " run"]
                .iter()
                .any(|own| line.contains(own)),
            "{line}"
        );
    }
    let dir = bryo.scratch("d");
    one_of_each(&dir);
    let from = dir.display().to_string();
    bryo.ok(["cp", &from, "stands:/tmp/d"]);
    told(podman.command().args(["cp", &from, "stands:/tmp/d"]));
    bryo.ok(["cp", &from, "stands:/tmp/d"]);
    told(podman.command().args(["cp", &from, "stands:/tmp/d"]));
    for path in ["/tmp/d", "/etc/passwd", "/tmp/d/."] {
        let mut ours = alike(&tar_of(&bryo, &format!("stands:{path}")));
        // As Docker has it, the content of a directory begins with itself.
        ours.retain(|line| !line.starts_with("5 . "));
        let theirs = alike(&told(podman.command().args([
            "cp",
            &format!("stands:{path}"),
            "-",
        ])));
        assert_eq!(ours, theirs, "{path}");
    }
    fs::set_permissions(dir.join("sub"), fs::Permissions::from_mode(0o755)).unwrap();
}
