//! What a reviewer found: each was wrong once.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::{Done, Project, mode};

#[test]
fn a_link_shows_nothing_that_is_ignored() {
    let project = Project::new();
    project.write("secrets/key", "secret");
    project.write(".dockerignore", "secrets\n");
    symlink("secrets/key", project.path("file")).unwrap();
    symlink("secrets", project.path("directory")).unwrap();
    for name in ["file", "directory", "directory/key"] {
        let said = project.fails(&format!("FROM base\nCOPY {name} /x\n"), &[]);
        assert!(
            said.trim_end().ends_with(&format!("\"/{name}\": not found")),
            "{said}"
        );
    }
    let mount = "FROM base\nRUN --mount=type=bind,source=directory,target=/m cat /m/key\n";
    project.fails(mount, &[]);
    // As itself it is part of the context.
    project.build("FROM base\nCOPY . /all/\n", &[]);
    assert_eq!(
        project.sh("cd /all; ls; readlink file"),
        "directory\nfile\nsecrets/key\n"
    );
}

#[test]
fn a_mount_of_a_link_shows_what_the_copy_takes() {
    let project = Project::new();
    project.write("data/open", "open");
    project.write("data/key", "secret");
    project.write("data/below/key", "secret");
    project.write(".dockerignore", "data/key\ndata/below/key\n");
    symlink("data", project.path("link")).unwrap();
    let text = "FROM base\nRUN --mount=type=bind,source=link,target=/m (cd /m && find . | sort) > /seen\n\
                COPY link /copied\n";
    project.build(text, &[]);
    let seen = ".\n./below\n./open\n";
    assert_eq!(
        project.sh("cat /seen; cd /copied; find . | sort"),
        format!("{seen}{seen}")
    );
}

#[test]
fn a_link_in_an_archive_shows_nothing_that_is_ignored() {
    let project = Project::new();
    project.write("secrets/key", "secret");
    project.write("open", "x");
    project.write(".dockerignore", "secrets\n");
    symlink("secrets", project.path("directory")).unwrap();
    symlink("/directory/key", project.path("file")).unwrap();
    symlink("open", project.path("other")).unwrap();
    let build = |copied: &str| {
        project.write("Dockerfile", format!("FROM base\nCOPY {copied} /x\n"));
        let tar = project.bryo.scratch("context.tar");
        let mut pack = Command::new("tar");
        pack.arg("-cf").arg(&tar).arg("-C").arg(project.path("")).arg(".");
        assert!(Done::of(&mut pack).status.success());
        let mut command = project.bryo.command(["build", "-t", "made", "-"]);
        Done::of(command.stdin(fs::File::open(tar).unwrap()))
    };
    for name in ["file", "directory", "directory/key"] {
        let done = build(name);
        assert_eq!(done.status.code(), Some(1), "{done}");
        let why = format!("\"/{name}\": not found");
        assert!(done.stderr.trim_end().ends_with(&why), "{done}");
    }
    let done = build("other");
    assert!(done.status.success(), "{done}");
    assert_eq!(project.sh("cat /x"), "x");
}

#[test]
fn what_is_ignored_is_not_looked_into() {
    let project = Project::new();
    project.write("kept", "x");
    project.write("data/private", "x");
    mode(&project.path("data"), 0o000);
    project.write(".dockerignore", "data\n");
    project.build("FROM base\nCOPY . /all/\n", &[]);
    mode(&project.path("data"), 0o755);
    assert_eq!(project.sh("ls /all"), "kept\n");
}

#[test]
fn links_and_their_files_are_copied_together() {
    let project = Project::new();
    let text = "FROM base AS a\nRUN mkdir -p /d/e; echo x > /d/one; ln /d/one /d/e/two; ln /d/one /d/three\n\
                FROM base\nCOPY --from=a /d /d/\n";
    project.build(text, &[]);
    let same = "cd /d; stat -c %h one; test one -ef e/two; test one -ef three; echo same";
    assert_eq!(project.sh(same), "3\nsame\n");
    // The same files without the links are another copy.
    let built = project.build(&text.replace("ln /d/one /d/three", "cp /d/one /d/three"), &[]);
    assert!(built.cached.is_empty(), "{}", built.said);
}

#[test]
fn a_secret_is_another_by_its_id_but_not_by_its_value() {
    let project = Project::new();
    let secrets = [project.bryo.scratch("first"), project.bryo.scratch("second")];
    fs::write(&secrets[0], "1").unwrap();
    fs::write(&secrets[1], "2").unwrap();
    let given: Vec<String> = ["dev", "prod"]
        .iter()
        .zip(&secrets)
        .map(|(id, file)| format!("--secret=id={id},src={}", file.display()))
        .collect();
    let flags: Vec<&str> = given.iter().map(String::as_str).collect();
    let text = "FROM base\nRUN --mount=type=secret,id=dev,env=TOKEN echo $TOKEN > /token\n";
    project.build(text, &flags);
    fs::write(&secrets[0], "3").unwrap();
    assert_eq!(project.build(text, &flags).run.len(), 0, "another value");
    assert_eq!(
        project.build(&text.replace("dev", "prod"), &flags).cached.len(),
        0,
        "another secret"
    );
    assert_eq!(project.sh("cat /token"), "2\n");
}

#[test]
fn a_mounts_source_is_no_pattern() {
    let project = Project::new();
    project.write("app/[slug]/x", "1");
    let text = "FROM base\nRUN --mount=type=bind,source=app/[slug],target=/s cat /s/x > /seen\n";
    project.build(text, &[]);
    project.write("app/[slug]/x", "2");
    assert_eq!(project.build(text, &[]).cached.len(), 0);
    assert_eq!(project.sh("cat /seen"), "2");
}

#[test]
fn a_cache_that_cannot_be_written_to_goes_all_the_same_and_can_be_named_twice() {
    let project = Project::new();
    let cache = |target| format!("--mount=type=cache,id=x,sharing=locked,target={target}");
    let text = format!(
        "FROM base\nRUN {} {} mkdir -p /a/b/c; echo x > /a/b/c/d; chmod 555 /a/b /a/b/c; cat /b/b/c/d\n",
        cache("/a"),
        cache("/b")
    );
    project.build(&text, &[]);
    let caches = project.bryo.state().join("caches");
    let directories = || {
        fs::read_dir(&caches)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count()
    };
    assert_eq!(directories(), 1);
    project.bryo.ok(["builder", "prune", "-f"]);
    assert_eq!(directories(), 0);
}

#[test]
fn proxies_have_both_spellings() {
    let project = Project::new();
    let flags = ["--build-arg", "HTTP_PROXY=http://here:1"];
    project.build(
        "FROM base\nRUN env | grep -i ^http_proxy | sort > /seen\n",
        &flags,
    );
    assert_eq!(
        project.sh("cat /seen"),
        "HTTP_PROXY=http://here:1\nhttp_proxy=http://here:1\n"
    );
    assert!(
        !project.image("made", "{{json .Config.Env}}").contains("here"),
        "no part of the image"
    );
}

#[test]
fn a_trigger_fetches_no_image_of_a_stages_name() {
    let project = Project::new();
    project.build("FROM base\nONBUILD COPY --from=assets /a /b\n", &[]);
    project.bryo.ok(["tag", "made", "trigger"]);
    let said = project.fails("FROM base AS assets\nRUN echo x > /a\nFROM trigger\n", &[]);
    assert!(
        said.contains("a trigger of the base image uses this stage") && said.contains("3 | >>> FROM trigger"),
        "{said}"
    );
    project.build(
        "FROM base AS assets\nRUN echo x > /a\nFROM trigger\nCOPY --from=assets /a /c\n",
        &[],
    );
    assert_eq!(project.sh("cat /b /c"), "x\nx\n");
}

#[test]
fn the_last_line_of_a_failed_command_is_shown_without_its_end() {
    let said = Project::new().fails("FROM base\nRUN printf 'fatal: no key'; false\n", &[]);
    assert!(said.contains("fatal: no key\n"), "{said}");
}

#[test]
fn an_epoch_bounds_what_the_cache_gives() {
    let project = Project::new();
    project.write("file", "x");
    let text = "FROM base\nWORKDIR /made/here\nCOPY file /new/\nRUN true\n";
    project.build(text, &[]);
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let first = project.build(text, &epoch);
    assert!(!first.said.contains("not consumed"), "{}", first.said);
    assert_eq!(project.sh("stat -c %Y /made/here"), "1700000000\n");
    let times = project.bryo.ok(["history", "--format", "{{.CreatedAt}}", "made"]);
    assert_eq!(
        times
            .lines()
            .filter(|line| line.starts_with("2023-11-14"))
            .count(),
        3,
        "{times}"
    );
    assert_eq!(project.build(text, &epoch).id, first.id);
}
