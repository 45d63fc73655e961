//! Dockerfiles, images, archives and contexts of somebody who wants out: what was once a hole in a builder, by its number
//! (`tests/HOLES.md` has the list).
//! And what must not stay anywhere: secrets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::common::hostile::{Answer, Hostile};
use crate::common::sandbox::within;
use crate::common::{Done, Project, mode};
use crate::{begun, last};

/// A directory of the host that nothing of a build may see or change, with a file in it.
pub(crate) fn outside(project: &Project) -> String {
    let outside = project.bryo.scratch("outside");
    fs::create_dir_all(outside.join("b/c")).unwrap();
    fs::write(outside.join("file"), "of the host").unwrap();
    outside.to_str().unwrap().into()
}

/// Fails if that is not as it was.
#[track_caller]
pub(crate) fn is_untouched(outside: &str) {
    let mut list = Command::new("find");
    let done = Done::of(list.arg(outside).args(["-printf", "%P\n"]));
    let mut names: Vec<&str> = done.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["", "b", "b/c", "file"]);
    let text = fs::read_to_string(Path::new(outside).join("file")).unwrap();
    assert_eq!(text, "of the host");
}

/// CVE-2024-1753: the source of a mount is a link, to `/` or to a place of the host.
#[test]
fn a_mounts_source_is_found_within_its_image() {
    let project = Project::new();
    let outside = outside(&project);
    let evil = format!(
        "FROM base AS evil\nRUN ln -s / /top && ln -s {outside} /absolute && ln -s ../../../../../../../..{outside} /up\n"
    );
    let mount = |source: &str| format!("--mount=type=bind,from=evil,source={source},target=/m");
    for access in ["", ",rw"] {
        let top = format!(
            "{evil}FROM base\nRUN {}{access} test -x /m/bin/busybox -a ! -e /m{outside}; \
             echo x > /m/written || true\n",
            mount("/top")
        );
        project.build(&top, &[]);
        for source in ["/absolute", "/up", "/top/up", "/absolute/file"] {
            let text = format!(
                "{evil}FROM base\nRUN {}{access} ls -R /m; cat /m\n",
                mount(source)
            );
            let said = project.fails(&text, &[]);
            assert!(said.contains("not found"), "{source}: {said}");
        }
    }
    // Of the context, it is within the context.
    symlink("/", project.path("top")).unwrap();
    symlink(&outside, project.path("absolute")).unwrap();
    for access in ["", ",rw"] {
        let text = format!(
            "FROM base\nRUN --mount=type=bind,source=top,target=/m{access} test -L /m/absolute -a ! -e /m/bin\n"
        );
        project.build(&text, &[]);
        let text = text.replace("source=top", "source=absolute/file");
        let said = project.fails(&text, &[]);
        assert!(said.contains("not found"), "{said}");
    }
    is_untouched(&outside);
    project.is_clean();
}

/// CVE-2024-9675: a cache's id that is a path. CVE-2024-9407: propagation, which would let mounts out.
#[test]
fn a_caches_id_is_no_path_and_mounts_stay_inside() {
    let project = Project::new();
    let outside = outside(&project);
    let up = format!("../../../../../../../..{outside}");
    for id in [&outside, &up, "..", ".", "../builds"] {
        let text = format!(
            "FROM base\nRUN --mount=type=cache,id={id},target=/c test -z \"$(ls -A /c)\" && echo x > /c/written\n"
        );
        project.build(&text, &[]);
    }
    for entry in fs::read_dir(project.bryo.state().join("caches")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let digest = name.split('.').next().unwrap();
        assert!(
            digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name}"
        );
    }
    for option in [
        "bind-propagation=shared",
        "propagation=rshared",
        "bind-nonrecursive=true",
    ] {
        let text = format!("FROM base\nRUN --mount=type=bind,target=/m,{option} true\n");
        let said = project.fails(&text, &[]);
        let key = option.split('=').next().unwrap();
        assert!(said.contains(&format!("there is no key {key}")), "{said}");
    }
    is_untouched(&outside);
    project.is_clean();
}

/// CVE-2024-11218, CVE-2024-23651: beside each other, one stage swaps directories for links in a cache that another one
/// writes to and mounts from.
#[test]
fn a_link_that_is_swapped_in_by_another_stage_leads_nowhere() {
    let project = Project::new();
    let outside = outside(&project);
    let cache = "--mount=type=cache,id=shared,target=/c";
    let text = format!(
        "FROM base AS swaps\nRUN {cache} mkdir -p /c/d; touch /c/one; until [ -e /c/two ]; do sleep 0.02; done; \
         for i in $(seq 300); do mv /c/d /c/e; ln -s {outside} /c/d; rm /c/d; mv /c/e /c/d; done; touch /c/end; \
         ln -s {outside} /c/left\n\
         FROM base AS writes\nRUN {cache} touch /c/two; until [ -e /c/one ]; do sleep 0.02; done; \
         until [ -e /c/end ]; do (echo x > /c/d/file; rm -rf /c/d/b; cat /c/d/file >> /log) 2> /dev/null; done; \
         ! grep host /log\n\
         FROM base\nCOPY --from=swaps / /s/\nCOPY --from=writes /log /\n"
    );
    project.build(&text, &["--jobs", "2"]);
    // What a stage has that a cache is to begin with is looked for in the stage.
    let begins = format!(
        "FROM base AS x\nRUN ln -s {outside} /left\nFROM base\n\
         RUN --mount=type=cache,id=other,from=x,source=left,target=/c ls /c\n"
    );
    let said = project.fails(&begins, &[]);
    assert!(said.contains("\"/left\": not found"), "{said}");
    // What is left in a cache leads nowhere.
    let inside = format!("FROM base\nRUN {cache} test -L /c/left -a ! -e /c/left/file\n");
    project.build(&inside, &[]);
    is_untouched(&outside);
    project.is_clean();
}

/// CVE-2024-23652: the place that was made to mount on is another one when it is taken away.
#[test]
fn what_is_made_to_mount_on_is_taken_away_and_nothing_else() {
    let project = Project::new();
    let outside = outside(&project);
    let mount = "--mount=type=tmpfs,target=/a/b/c";
    // To a directory of the image, to one that the command makes, to one of the host, to nowhere.
    for to in ["/other", "/own", &outside, "/a"] {
        let text = format!(
            "FROM base\nRUN mkdir -p /other/b/c && touch -d @5 /other/b\n\
             RUN {mount} mkdir -p /own/b/c && mv /a /moved && ln -s {to} /a\n"
        );
        project.build(&text, &[]);
        is_untouched(&outside);
        assert_eq!(
            project.sh("find /other /own; readlink /a; stat -c %Y /other/b"),
            format!("/other\n/other/b\n/other/b/c\n/own\n/own/b\n/own/b/c\n{to}\n5\n")
        );
    }
    // Through a link of the image, it is taken away where it was made.
    let text = format!("FROM base\nRUN mkdir /other && ln -s other /a\nRUN {mount} true\n");
    project.build(&text, &[]);
    assert_eq!(project.sh("find /other"), "/other\n");
    project.is_clean();
}

/// CVE-2024-21626 (runc) in a RUN; CVE-2022-29162 and others: capabilities that a child inherits.
#[test]
fn a_run_has_nothing_of_the_builders() {
    let project = Project::new();
    let secret = project.bryo.scratch("secret");
    fs::write(&secret, "secret").unwrap();
    let text = "FROM base\nRUN ls /proc/$$/fd | cat > /fds; grep CapInh /proc/self/status > /caps\n\
        RUN [\"/bin/sh\", \"-c\", \"ls /proc/$$/fd | cat >> /fds; true\"]\n";
    // The caller leaks one, too.
    let mut prepared = project.command(text, &[]);
    prepared.env("SOURCE_DATE_EPOCH", "1");
    let leak = [
        "sh",
        "-c",
        "exec 7< \"$0\"; exec \"$@\"",
        secret.to_str().unwrap(),
    ];
    project.built(&mut within(&leak, &prepared));
    assert_eq!(
        project.sh("cat /fds /caps"),
        "0\n1\n2\n0\n1\n2\nCapInh:\t0000000000000000\n"
    );
    for number in 3..=12 {
        let text = format!("FROM base\nWORKDIR /proc/self/fd/{number}\nRUN ls .\n");
        let done = Done::of(&mut project.command(&text, &[]));
        assert_eq!(
            done.status.code(),
            Some(1),
            "{number} is a working directory: {done}"
        );
    }
    project.is_clean();
}

/// A tar of entries that no honest program writes.
pub(crate) fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, what) in entries {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_ustar_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        let content = if kind.is_file() { what.as_bytes() } else { b"" };
        if !kind.is_file() {
            header.as_ustar_mut().unwrap().linkname[..what.len()].copy_from_slice(what.as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// CVE-2026-28406 and its like: entries that climb, or go through a link, in what ADD unpacks.
#[test]
fn an_archive_that_is_unpacked_stays_below_its_place() {
    use tar::EntryType as Is;
    let project = Project::new();
    let outside = outside(&project);
    let below = outside.trim_start_matches('/');
    let (file, absolute, through) = (
        format!("../../../../../../../../{below}/written"),
        format!("{outside}/written"),
        "link/written",
    );
    for (what, entries) in [
        ("climbs", vec![(file.as_str(), Is::Regular, "x")]),
        ("absolute", vec![(absolute.as_str(), Is::Regular, "x")]),
        (
            "through a link",
            vec![
                ("link", Is::Symlink, outside.as_str()),
                (through, Is::Regular, "x"),
            ],
        ),
        (
            "a hard link",
            vec![
                ("hard", Is::Link, absolute.as_str()),
                ("hard", Is::Regular, "changed"),
            ],
        ),
        ("a hard link that climbs", vec![("hard", Is::Link, file.as_str())]),
    ] {
        project.write("evil.tar", tar_of(&entries));
        let done = Done::of(&mut project.command("FROM base\nADD evil.tar /deep/down/\n", &[]));
        is_untouched(&outside);
        // Refused, or put where the name means within the image.
        if done.status.success() {
            let seen = project.sh("find / -xdev -name written; find /deep");
            assert!(!seen.contains("/deep/written"), "{what}: {seen}");
        } else {
            assert_eq!(done.status.code(), Some(1), "{what}: {done}");
            assert!(last(&done.stderr).0.starts_with("bryo: "), "{what}: {done}");
        }
        // The same as the context itself.
        let dockerfile = ("Dockerfile", Is::Regular, "FROM base\nCOPY . /all/\n");
        let context = project.bryo.scratch("context.tar");
        fs::write(&context, tar_of(&[&[dockerfile], &entries[..]].concat())).unwrap();
        let mut command = project.bryo.command(["build", "-t", "made", "-"]);
        let done = Done::of(command.stdin(fs::File::open(&context).unwrap()));
        is_untouched(&outside);
        if done.status.success() {
            let seen = project.sh("cat /all/* /all/*/* 2> /dev/null || true");
            assert!(!seen.contains("of the host"), "{what}: {seen}");
        } else {
            assert!(last(&done.stderr).0.starts_with("bryo: "), "{what}: {done}");
        }
    }
    project.is_clean();
}

/// CVE-2024-9676 and its like: the list of users is a link out, or nothing that could be read.
#[test]
fn a_list_of_users_is_a_file_of_the_image() {
    let project = Project::new();
    let list = project.bryo.scratch("passwd");
    fs::write(&list, "outsider:x:1234:1234::/:/bin/sh\n").unwrap();
    let link = format!("ln -s {} /etc/passwd", list.display());
    project.write("file", "x");
    for make in [
        link.as_str(),
        "mkfifo /etc/passwd",
        "mkdir /etc/passwd",
        "ln -s passwd /etc/passwd",
        "ln -s /dev/zero /etc/passwd",
        "ln -s /proc/self/fd/0 /etc/passwd",
    ] {
        let evil = format!("FROM base\nRUN rm -f /etc/passwd; {make}\n");
        for step in ["COPY --chown=outsider file /f", "USER outsider\nRUN true"] {
            let done = Done::of(&mut project.command(&format!("{evil}{step}\n"), &[]));
            assert_eq!(done.status.code(), Some(1), "{make}: {done}");
            assert!(last(&done.stderr).0.starts_with("bryo: "), "{make}: {done}");
        }
    }
    project.is_clean();
}

/// CVE-2026-33747: what `# syntax=` names would be a program that runs in the builder.
#[test]
fn nobody_is_asked_for_the_image_of_a_syntax() {
    let project = Project::new();
    let registry = Hostile::serve(|_| Answer::new(404, ""));
    let name = format!("{}/frontend:1", registry.address());
    for head in ["# syntax=", "#syntax = "] {
        project.build(&format!("{head}{name}\nFROM base\nRUN true\n"), &["--pull=false"]);
    }
    let flag = format!("BUILDKIT_SYNTAX={name}");
    project.build("FROM base\nRUN true\n", &["--build-arg", &flag]);
    assert!(registry.seen("").is_empty(), "{:?}", registry.seen(""));
    // It would be seen: the same name as a base.
    project.fails(&format!("FROM {name}\n"), &[]);
    assert!(!registry.seen("").is_empty());
}

/// The files below a directory that hold a text.
fn with_text(directory: &Path, text: &str) -> Vec<String> {
    let done = Done::of(Command::new("grep").args(["-rlaF", text]).arg(directory));
    done.stdout.lines().map(String::from).collect()
}

/// Not in layers, history, cache, records or logs; nor in what was left by a build that was killed, once that is swept.
#[test]
fn a_secret_stays_nowhere() {
    let project = Project::new();
    let value = "the-value-of-the-secret";
    let given = tempfile::tempdir().unwrap();
    let file = given.path().join("file");
    fs::write(&file, value).unwrap();
    let file = format!("--secret=id=file,src={}", file.display());
    let flags = [&file, "--secret=id=variable,env=OF_THE_SECRET"];
    let mounts = "--mount=type=secret,id=file --mount=type=secret,id=variable,env=TOKEN --mount=type=secret,id=variable";
    let uses = format!("RUN {mounts} cat /run/secrets/file | wc -c; test ${{#TOKEN}} = 23");
    let built = |last: &str| {
        let mut command = project.command(&format!("FROM base\n{uses}\n{last}\n"), &flags);
        command.env("OF_THE_SECRET", value);
        command
    };
    let done = Done::of(&mut built("RUN true"));
    assert!(done.status.success() && !done.stderr.contains(value), "{done}");
    let done = Done::of(&mut built(&format!("RUN {mounts} false")));
    assert!(
        done.status.code() == Some(1) && !done.stderr.contains(value),
        "{done}"
    );
    assert_eq!(with_text(project.bryo.dir(), value), Vec::<String>::new());
    // The search finds what is there: while the step runs, it is.
    let (mut builder, _said) = begun(&mut built(&format!("RUN {mounts} echo here; sleep 1000")), 1);
    let during = with_text(project.bryo.dir(), value);
    builder.kill().unwrap();
    builder.wait().unwrap();
    assert!(!during.is_empty());
    project.becomes_clean();
    assert_eq!(with_text(project.bryo.dir(), value), Vec::<String>::new());
}

/// What cannot be read is named if it is asked for, and is of no interest beside what is.
#[test]
fn an_unreadable_file_fails_the_copies_that_have_it_and_no_other() {
    let project = Project::new();
    project.write("sub/fine", "fine");
    project.write("sub/unreadable", "x");
    mode(&project.path("sub/unreadable"), 0o000);
    let _socket = std::os::unix::net::UnixListener::bind(project.path("sub/socket")).unwrap();
    project.build("FROM base\nCOPY sub/fine /fine\n", &[]);
    project.build(
        "FROM base\nCOPY --exclude=unreadable --exclude=socket sub /s/\n",
        &[],
    );
    assert_eq!(project.sh("ls /s"), "fine\n");
    for copied in ["sub/unreadable", "sub", "."] {
        let said = project.fails(
            &format!("FROM base\nCOPY --exclude=**/socket {copied} /x/\n"),
            &[],
        );
        let line = last(&said).0;
        assert!(
            line.contains("sub/unreadable") && line.contains("Permission denied"),
            "{copied}: {said}"
        );
    }
    mode(&project.path("sub/unreadable"), 0o644);
    project.is_clean();
}

/// A file of an archive that says it has a great many bytes, all of them holes: as GNU tar writes such files now, and as it
/// once did.
fn sparse(archive: &mut tar::Builder<Vec<u8>>, form: tar::EntryType, size: u64) {
    const BLOCK: usize = 512;
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    if form == tar::EntryType::GNUSparse {
        header.set_entry_type(form);
        header.set_path("bomb").unwrap();
        header.set_size(0);
        let real_size = &mut header.as_gnu_mut().unwrap().realsize;
        // A number too long for octal digits.
        real_size[0] = 0x80;
        real_size[4..].copy_from_slice(&size.to_be_bytes());
        header.set_cksum();
        archive.append(&header, &b""[..]).unwrap();
        return;
    }
    let (real_size, ends) = (size.to_string(), format!("1\n{size}\n0\n"));
    archive
        .append_pax_extensions([
            ("GNU.sparse.major", &b"1"[..]),
            ("GNU.sparse.minor", &b"0"[..]),
            ("GNU.sparse.name", &b"bomb"[..]),
            ("GNU.sparse.realsize", real_size.as_bytes()),
        ])
        .unwrap();
    let mut map = ends.into_bytes();
    map.resize(BLOCK, 0);
    header.set_size(BLOCK as u64);
    header.set_path("GNUSparseFile.0/bomb").unwrap();
    header.set_cksum();
    archive.append(&header, map.as_slice()).unwrap();
}

/// A thousand bytes that say they are 2⁶²: who hashed that would never end.
#[test]
fn holes_without_end_are_refused() {
    let project = Project::new();
    for form in [tar::EntryType::GNUSparse, tar::EntryType::Regular] {
        let pack = |size| {
            let mut archive = tar::Builder::new(Vec::new());
            let text = b"FROM scratch\nCOPY . /all/\n";
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, "Dockerfile", &text[..]).unwrap();
            sparse(&mut archive, form, size);
            archive.into_inner().unwrap()
        };
        for (size, is_fine) in [(1 << 62, false), (8 << 20, true)] {
            project.write("archive.tar", pack(size));
            let open = || fs::File::open(project.path("archive.tar")).unwrap();
            let mut added = project.command("FROM scratch\nADD archive.tar /\n", &[]);
            let mut context = project.bryo.command(["build", "-t", "made", "-"]);
            for command in [&mut added, context.stdin(open())] {
                let done = Done::of(command);
                assert_eq!(done.status.success(), is_fine, "{done}");
                let line = last(&done.stderr).0;
                assert!(is_fine || line.contains("more than 500 times its own"), "{done}");
            }
        }
    }
    project.is_clean();
}
