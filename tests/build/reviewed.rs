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
    let said = project.fails("FROM trigger\nFROM base AS assets\n", &["--target", "0"]);
    assert!(
        said.contains("--from=assets: a stage can use only those before it")
            && said.contains("1 | >>> FROM trigger"),
        "{said}"
    );
    project.build(
        "FROM base AS assets\nRUN echo x > /a\nFROM trigger\nCOPY --from=assets /a /c\n",
        &[],
    );
    assert_eq!(project.sh("cat /b /c"), "x\nx\n");
}

/// As in BuildKit, whose `resolveStages` asks once more what is needed when a base is there.
#[test]
fn a_trigger_brings_in_the_stages_that_it_names() {
    let project = Project::new();
    let text = "FROM base\nONBUILD COPY --from=assets /a /b\n\
        ONBUILD RUN --mount=from=more,target=/m cp /m/c /d\n";
    project.build(text, &["-t", "trigger"]);
    let text = "FROM base AS below\nRUN echo x > /a\nFROM base AS unused\nRUN false\nFROM below AS assets\n\
        FROM base AS more\nRUN echo y > /c\nFROM trigger AS last\nFROM base AS other\nRUN echo z > /o\n\
        FROM last\nCOPY --from=other /o /o\n";
    for jobs in ["1", "2"] {
        project.build(text, &["--no-cache", "--jobs", jobs]);
        assert_eq!(project.sh("cat /b /d /o"), "x\ny\nz\n");
    }
    assert_eq!(project.build(text, &[]).run, [""; 0]);
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

#[test]
fn a_base_without_a_path_gets_the_usual_one() {
    let project = Project::new();
    project.build(
        "FROM scratch\nENV A=1\n",
        &["--unsetenv", "PATH", "-t", "pathless"],
    );
    let env = |name| project.image(name, "{{json .Config.Env}}");
    assert_eq!(env("pathless"), "[\"A=1\"]");
    project.build("FROM pathless\nENV B=$PATH\n", &[]);
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(env("made"), format!("[\"A=1\",\"PATH={path}\",\"B={path}\"]"));
}

#[test]
fn a_cache_of_other_permissions_is_another() {
    let project = Project::new();
    let step = |mode: &str| {
        format!(
            "RUN --mount=type=cache,id=c,target=/c{mode} stat -c %a /c >> /seen; ls /c >> /seen; touch /c/x\n"
        )
    };
    let text: String = ["", ",mode=700", ",mode=1777", ",mode=0700"].map(step).concat();
    project.build(&format!("FROM base\n{text}"), &[]);
    assert_eq!(project.sh("cat /seen"), "755\n700\n1777\n700\nx\n");
}

/// As in BuildKit, whose steps have files of their own in the place of `hosts` and `resolv.conf` alone.
#[test]
fn a_step_writes_the_images_hostname() {
    let project = Project::new();
    let text = "FROM base\nRUN echo mine > /etc/hostname\nRUN cat /etc/hostname > /seen; hostname >> /seen\n\
        FROM base\nCOPY --from=0 /etc/hostname /seen /\n";
    project.build(text, &[]);
    assert_eq!(project.sh("cat /hostname /seen"), "mine\nmine\nbuildkitsandbox\n");
}

#[test]
fn a_default_that_is_not_used_need_not_be_one() {
    let project = Project::new();
    let text = "ARG G=${NONE:?needed}\nFROM base\nARG G\nARG A=${NONE:?needed}\nRUN echo $G $A > /x\n";
    let given = ["--build-arg", "G=1", "--build-arg", "A=2"];
    project.build(text, &given);
    assert_eq!(project.sh("cat /x"), "1 2\n");
    let outline = Done::of(&mut project.command(text, &[&given[..], &["--call=outline"]].concat()));
    assert!(outline.status.success(), "{outline}");
    for (given, place) in [(&given[..2], ":4\n"), (&given[2..], ":1\n")] {
        let said = project.fails(text, given);
        assert!(
            said.contains("needed") && said.contains(&format!("Dockerfile{place}")),
            "{said}"
        );
        let outline = Done::of(&mut project.command(text, &[given, &["--call=outline"]].concat()));
        assert!(
            outline.stderr.contains(&format!("Dockerfile{place}")),
            "{outline}"
        );
    }
}

#[test]
fn a_secret_is_at_the_last_name_of_its_id() {
    let project = Project::new();
    let secret = project.bryo.scratch("secret");
    fs::write(&secret, "known").unwrap();
    let given = format!("--secret=id=all/of/token,src={}", secret.display());
    let text = "FROM base\nRUN --mount=type=secret,id=all/of/token cat /run/secrets/token > /seen\n";
    project.build(text, &[&given]);
    assert_eq!(project.sh("cat /seen"), "known");
}

/// The Dockerfile reference's example is the first; BuildKit takes the excluded file along (its issue 5489).
#[test]
fn what_a_source_names_can_be_excluded() {
    let project = Project::new();
    for path in [
        "home.txt",
        "home.md",
        "homes/a.txt",
        "homes/b",
        "homes/sub/c.txt",
        "one/homes/x",
        "one/f",
    ] {
        project.write(path, path);
    }
    project.build(
        "FROM base\n\
         COPY --exclude=*.txt hom* /mydir/\n\
         COPY --exclude=home.txt home.txt home.md /named/\n\
         COPY --exclude=home.txt home.txt /none/\n\
         COPY --exclude=homes * /all/\n\
         COPY --exclude=homes homes /whole/\n\
         COPY --exclude=homes one homes /within/\n\
         COPY --parents --exclude=homes/*.txt --exclude=one home* homes/a.txt ./one/homes /parents/\n\
         ADD --exclude=*.txt home.* /added/\n",
        &[],
    );
    let files = |place: &str| {
        project.sh(&format!(
            "cd /{place} 2> /dev/null || exit 0; find . -type f | sort"
        ))
    };
    for (place, wanted) in [
        ("mydir", "./b\n./home.md\n./sub/c.txt\n"),
        ("named", "./home.md\n"),
        ("none", ""),
        ("all", "./f\n./home.md\n./home.txt\n"),
        ("whole", "./a.txt\n./b\n./sub/c.txt\n"),
        ("within", "./a.txt\n./b\n./f\n./sub/c.txt\n"),
        ("parents", "./home.md\n./home.txt\n./homes/b\n./homes/sub/c.txt\n"),
        ("added", "./home.md\n"),
    ] {
        assert_eq!(files(place), wanted, "{place}");
    }
}
