//! ADD of git repositories, and repositories as contexts.

use std::fs;
use std::io::Read as _;
use std::process::Command;

use crate::common::repositories::{Repositories, Repository};
use crate::common::{Done, Project, fed, mode, on_terminal};

fn served(project: &Project) -> Repositories {
    Repositories::serve(&project.bryo.scratch("repositories"))
}

/// A repository with a file, a program, a symlink, and a directory; a tag, and a branch that is further.
fn sample(served: &Repositories) -> (Repository, String) {
    let repository = served.repository("sample");
    repository.write("file", "one");
    repository.write("program", "#!/bin/sh\necho runs\n");
    mode(&repository.path("program"), 0o755);
    repository.write("below/deep/file", "deep");
    std::os::unix::fs::symlink("file", repository.path("link")).unwrap();
    let commit = repository.commit();
    repository.git(&["tag", "-a", "-m", "the first", "v1"]);
    repository.git(&["checkout", "-q", "-b", "next"]);
    repository.write("file", "two");
    repository.commit();
    repository.git(&["checkout", "-q", "main"]);
    (repository, commit)
}

#[test]
fn repositories_are_added() {
    let project = Project::new();
    let served = served(&project);
    let (_, commit) = sample(&served);
    let url = served.url("sample");
    project.write("local", "local");
    project.build(
        &format!(
            "FROM base\nARG NAME=v1\n\
             ADD {url} /default\n\
             ADD --chown=7:8 --chmod=u=rwX,go= {url}#next /next/\n\
             ADD --exclude=p* {url}#$NAME:below/.. /tag\n\
             ADD {url}#{commit}:below/deep /commit\n\
             ADD {url}?branch=next&subdir=/below /query\n\
             ADD {url}#refs/tags/v1:below local /both/\n"
        ),
        &[],
    );
    let said = project.sh(
        "cd /; ls -A default tag query both; cat default/file next/file tag/file commit/file both/local both/deep/file; \
         readlink default/link; default/program; stat -c '%a %n' default/* next/program default/below/deep",
    );
    assert_eq!(
        said,
        "both:\ndeep\nlocal\n\ndefault:\nbelow\nfile\nlink\nprogram\n\nquery:\ndeep\n\ntag:\nbelow\nfile\nlink\n\
         onetwoonedeeplocaldeepfile\nruns\n755 default/below\n644 default/file\n777 default/link\n755 default/program\n\
         700 next/program\n755 default/below/deep\n"
    );
    assert_eq!(
        (project.owner("next/file"), project.owner("default/file")),
        ("7/8".into(), "0/0".into())
    );
    project.is_clean();
}

#[test]
fn a_commit_that_was_added_before_is_not_fetched_again() {
    let project = Project::new();
    let served = served(&project);
    let (repository, commit) = sample(&served);
    let url = served.url("sample");
    let text = format!("FROM base\nADD {url} /r\nADD {url}#{commit} /c\n");
    let first = project.build(&text, &["--jobs", "2"]);
    assert!(served.connections() >= 3);
    let again = project.build(&text, &[]);
    assert_eq!((again.cached.len(), again.id), (2, first.id));
    assert!(again.said.contains(&commit), "{}", again.said);
    assert_eq!(served.connections(), 1, "one question, of the branch");
    // Another place, another directory, the same commit.
    let elsewhere = project.build(&format!("FROM base\nADD {url} /else\n"), &[]);
    let below = project.build(&format!("FROM base\nADD {url}#:below /r\n"), &[]);
    let kept = project.build(&format!("FROM base\nADD --keep-git-dir {url} /r\n"), &[]);
    for built in [elsewhere, below, kept] {
        assert_eq!(built.cached.len(), 0, "{}", built.said);
    }
    repository.write("file", "changed");
    repository.commit();
    let changed = project.build(&text, &[]);
    assert_eq!(changed.cached.len(), 0, "{}", changed.said);
    assert_eq!(project.sh("cat /r/file /c/file"), "changedone");
    project.is_clean();
}

/// Whatever the user has new files be.
#[test]
fn files_of_a_repository_are_for_all() {
    let project = Project::new();
    let served = served(&project);
    sample(&served);
    let plain = project.command(&format!("FROM base\nADD {} /r\n", served.url("sample")), &[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 077; exec \"$0\" \"$@\""])
        .arg(plain.get_program());
    command
        .args(plain.get_args())
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = Done::of(&mut command);
    assert!(done.status.success(), "{done}");
    let said = project.sh("cd /r; stat -c '%a' file program below below/deep/file");
    assert_eq!(said, "644\n755\n755\n644\n");
}

/// Whose commits have 64 digits.
#[test]
fn repositories_of_sha256_are_added() {
    let project = Project::new();
    let served = served(&project);
    let repository = served.repository_of("long", &["--object-format=sha256"]);
    repository.write("file", "sha256");
    let commit = repository.commit();
    assert_eq!(commit.len(), 64);
    let url = served.url("long");
    project.build(&format!("FROM base\nADD {url} /r\nADD {url}#{commit} /c\n"), &[]);
    assert_eq!(project.sh("cat /r/file /c/file"), "sha256sha256");
}

/// A stage that a worker has built is gone through once more, by the builder.
#[test]
fn a_repository_is_fetched_once_in_a_build() {
    let project = Project::new();
    let served = served(&project);
    let (_, commit) = sample(&served);
    let url = served.url("sample");
    let text = format!(
        "FROM base AS one\nADD {url}#{commit} /f\nFROM base AS two\nRUN echo > /two\nFROM one\nCOPY --from=two /two /g\n"
    );
    project.build(&text, &["--no-cache", "--jobs", "2"]);
    assert_eq!(served.connections(), 1);
}

#[test]
fn the_git_directory_stays_if_asked() {
    let project = Project::new();
    let served = served(&project);
    let (_, commit) = sample(&served);
    let url = served.url("sample");
    for flag in ["--keep-git-dir=true ", ""] {
        let query = if flag.is_empty() { "?keep-git-dir=1" } else { "" };
        project.build(&format!("FROM base\nADD {flag}{url}{query}#v1 /r\n"), &[]);
        let said = project.sh("cd /r/.git; cat HEAD; grep url config; ls hooks FETCH_HEAD logs 2>&1 | grep -c 'No such'; ls refs/tags");
        assert_eq!(said, format!("{commit}\n\turl = {url}\n3\nv1\n"));
    }
}

#[test]
fn submodules_come_along() {
    let project = Project::new();
    let served = served(&project);
    let (_, commit) = sample(&served);
    let middle = served.repository("middle");
    middle.write("own", "middle");
    middle.commit();
    middle.submodule("inner", "../sample", &commit);
    let outer = served.repository("outer");
    outer.commit();
    outer.submodule("mid", &served.url("middle"), &middle.git(&["rev-parse", "HEAD"]));
    let url = served.url("outer");
    project.build(
        &format!("FROM base\nADD {url} /r\nADD {url}?submodules=false /bare\nADD --keep-git-dir {url} /kept\nADD {url}#:mid /mid\n"),
        &[],
    );
    let said = project.sh(
        "cd /; cat r/mid/own r/mid/inner/file mid/inner/file; find r mid bare -name .git; ls -A bare/mid; \
         cat kept/mid/inner/.git",
    );
    assert_eq!(said, "middleoneonegitdir: ../../.git/modules/mid/modules/inner\n");
    // No files of this machine.
    let bad = served.repository("bad");
    bad.commit();
    let here = project.bryo.scratch("repositories").join("sample");
    bad.submodule("stolen", &format!("file://{}", here.display()), &commit);
    let said = project.fails(&format!("FROM base\nADD {} /r\n", served.url("bad")), &[]);
    assert!(said.contains("transport 'file' not allowed"), "{said}");
    project.is_clean();
}

#[test]
fn a_checksum_is_that_of_the_commit_or_its_tag() {
    let project = Project::new();
    let served = served(&project);
    let (repository, commit) = sample(&served);
    let tag = repository.git(&["rev-parse", "v1"]);
    let next = repository.git(&["rev-parse", "next"]);
    let url = served.url("sample");
    let add = |sum: &str, what: &str| format!("FROM base\nADD --checksum={sum} {url}{what} /r\n");
    project.build(&add(&commit, "#v1"), &[]);
    project.build(&add(&tag[..7], "#v1"), &["--no-cache"]);
    let named = add("$SUM", "#v1").replace("ADD", "ARG SUM\nADD");
    project.build(&named, &["--build-arg", &format!("SUM={commit}")]);
    let said = project.fails(&named, &["--build-arg", &format!("SUM={next}")]);
    assert!(said.contains(&format!("expected the commit {next}")), "{said}");
    project.build(&format!("FROM base\nADD {url}?commit={commit} /r\n"), &[]);
    let said = project.fails(&add(&next, "#v1"), &[]);
    assert!(
        said.contains(&format!("expected the commit {next}, and it is {commit}")),
        "{said}"
    );
    let said = project.fails(&add(&next, &format!("#{commit}")), &[]);
    assert!(said.contains("expected the commit"), "{said}");
    for (sum, what) in [
        ("sha256:00", "#v1"),
        (next.as_str(), &format!("?ref=v1&checksum={commit}")),
    ] {
        let said = project.fails(&add(sum, what), &[]);
        assert!(said.contains("checksum"), "{said}");
    }
    project.is_clean();
}

#[test]
fn what_is_not_there_is_an_error() {
    let project = Project::new();
    let served = served(&project);
    let (repository, _) = sample(&served);
    std::os::unix::fs::symlink("/etc", repository.path("outside")).unwrap();
    repository.commit();
    let url = served.url("sample");
    for (source, why) in [
        (format!("{url}#nowhere"), "has no nowhere"),
        (format!("{url}#{}", "0".repeat(40)), "cannot fetch git://"),
        (format!("{url}#main:no/such"), "has no directory \"no/such\""),
        (format!("{url}#main:outside"), "has no directory \"outside\""),
        (format!("{url}#main:file"), "has no directory \"file\""),
        (served.url("none"), "cannot fetch git://"),
        (format!("{url}#--upload-pack=x"), "invalid ref"),
        (format!("{url}?what=x"), "unexpected query"),
        (
            "ssh://-oProxyCommand=x/r".into(),
            "no address of a git repository",
        ),
        ("git@127.0.0.1:r".into(), "no SSH agent was given (--ssh default"),
        (format!("{url} {url}"), "more than one source"),
        (
            "git://127.0.0.1:1/r".into(),
            "cannot fetch git://127.0.0.1:1/r: unable to connect to 127.0.0.1: ",
        ),
    ] {
        let said = project.fails(&format!("FROM base\nADD {source} /r\n"), &[]);
        assert!(said.lines().last().unwrap().contains(why), "{source}: {said}");
    }
    let empty = project.bryo.scratch("empty");
    fs::create_dir(&empty).unwrap();
    let mut without = project.command(&format!("FROM base\nADD {url} /r\n"), &[]);
    let done = Done::of(without.env("PATH", &empty));
    assert!(
        done.stderr
            .contains("the program git is not in PATH (install git)"),
        "{done}"
    );
    project.is_clean();
}

/// CVE-2026-33748: nor is anything read that lies beside the directory, or beside the repository.
#[test]
fn a_directory_of_a_repository_leads_nowhere_else() {
    let project = Project::new();
    let served = served(&project);
    let (repository, _) = sample(&served);
    repository.write("secret", "of-the-repository");
    for (name, to) in [
        ("below/up", ".."),
        ("below/secret", "../secret"),
        ("below/top", "/"),
        ("below/absolute", "/secret"),
        ("out", "../.."),
        ("below/git", "../.git"),
    ] {
        std::os::unix::fs::symlink(to, repository.path(name)).unwrap();
    }
    repository.write("below/Dockerfile", "FROM base\nCOPY . /all/\n");
    repository.commit();
    let url = served.url("sample");
    // Who asks for what is above the repository, by itself or by a link, gets an error or what is at its top.
    for directory in [
        "..",
        "../..",
        "out",
        "out/..",
        "below/../..",
        "below/top/etc",
        ".git",
        "below/git",
    ] {
        let done =
            Done::of(&mut project.command(&format!("FROM base\nADD {url}#main:{directory} /r\n"), &[]));
        if done.status.success() {
            let seen = project.sh("ls -A /r");
            assert!(
                seen.contains("Dockerfile") || seen.contains("below"),
                "{directory}: {seen}"
            );
            assert!(!seen.contains("HEAD"), "{directory}: {seen}");
        } else {
            let line = done.stderr.lines().last().unwrap();
            assert!(
                line.contains("has no directory") || line.contains("invalid"),
                "{directory}: {done}"
            );
        }
    }
    // A context is that directory alone, whatever its links say.
    let context = format!("{url}#main:below");
    let build = |dockerfile: &str| {
        let mut command = project.bryo.command(["build", "-t", "made", "-f", "-", &context]);
        fed(&mut command, dockerfile)
    };
    for copied in [
        "up/secret",
        "secret",
        "../secret",
        "absolute",
        "top/etc/passwd",
        "git/HEAD",
        "up/below/Dockerfile",
    ] {
        let done = build(&format!("FROM base\nCOPY {copied} /x\n"));
        assert_eq!(done.status.code(), Some(1), "{copied}: {done}");
    }
    let bound = "FROM base\nRUN --mount=type=bind,source=up,target=/m cat /m/secret\n";
    let done = build(bound);
    assert!(
        !done.status.success() && !done.stderr.contains("of-the-repository\n"),
        "{done}"
    );
    let done = build("FROM base\nCOPY . /all/\n");
    assert!(done.status.success(), "{done}");
    assert_eq!(
        project.sh("readlink /all/up; grep -r of-the-repository /all || true"),
        "..\n"
    );
    project.is_clean();
}

/// A server of plain files can neither fetch a commit alone nor without history; logins are the build's.
#[test]
fn repositories_are_fetched_over_http_with_the_logins_of_the_build() {
    let project = Project::new();
    let served = served(&project);
    let (_, commit) = sample(&served);
    let open = served.over_http(None);
    let url = format!("http://{}/sample.git", open.address());
    project.build(
        &format!("FROM base\nADD {url}#v1 /r\nADD {url}#{commit} /c\n"),
        &[],
    );
    assert_eq!(project.sh("cat /r/file /c/file"), "oneone");

    // printf x-access-token:secret | base64
    let closed = served.over_http(Some("basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0"));
    let url = format!("http://{}/sample.git", closed.address());
    let text = format!("FROM base\nADD --keep-git-dir {url}#next /r\n");
    let said = project.fails(&text, &[]);
    assert!(said.contains("terminal prompts disabled"), "{said}");
    for id in [
        "GIT_AUTH_TOKEN".into(),
        format!("GIT_AUTH_TOKEN.{}", closed.address()),
    ] {
        let secret = format!("id={id},env=TOKEN");
        let mut command = project.command(&text, &["--no-cache", "--secret", &secret]);
        let built = project.built(command.env("TOKEN", "secret\n"));
        assert!(!built.said.contains("secret\n"), "{}", built.said);
        assert_eq!(
            project.sh("cat /r/file; grep -ri -e secret -e eC1h /r/.git || true"),
            "two"
        );
    }
    let secret = "id=GIT_AUTH_TOKEN.elsewhere,env=TOKEN";
    let mut command = project.command(&text, &["--no-cache", "--secret", secret]);
    let done = Done::of(command.env("TOKEN", "secret"));
    assert!(done.stderr.contains("terminal prompts disabled"), "{done}");

    // printf me:secret | base64
    let login = served.over_http(Some("Basic bWU6c2VjcmV0"));
    let text = format!(
        "FROM base\nARG URL=http://me:secret@{}/sample.git\nADD --keep-git-dir $URL /r\n",
        login.address()
    );
    project.build(&text, &[]);
    assert_eq!(project.sh("cat /r/file; grep -r secret /r/.git || true"), "one");
    let said = project.fails(&text.replace("$URL", "$URL#none"), &[]);
    assert!(!said.lines().last().unwrap().contains("secret"), "{said}");

    let text = format!(
        "FROM base\nARG LOGIN\nADD http://$LOGIN@{}/sample.git /r\n",
        login.address()
    );
    project.build(&text, &["--no-cache", "--build-arg", "LOGIN=me:secret"]);
    let history = project.bryo.ok(["history", "--no-trunc", "made"]);
    let added = format!("ADD http://{}/sample.git /r", login.address());
    assert!(
        history.contains(&added) && !history.contains("secret"),
        "{history}"
    );
    let kept = project.bryo.ok(["builder", "du", "--verbose"]);
    assert!(kept.contains(&added) && !kept.contains("secret@"), "{kept}");
}

/// A home whose git has a login and a hook.
fn home(project: &Project) -> std::path::PathBuf {
    let home = project.bryo.scratch("home");
    fs::create_dir_all(home.join("hooks")).unwrap();
    let hook = home.join("hooks/post-checkout");
    fs::write(&hook, format!("#!/bin/sh\ntouch {}/ran\n", home.display())).unwrap();
    mode(&hook, 0o755);
    let hooks = home.join("hooks");
    let config = format!(
        "[http]\n\textraHeader = Authorization: own\n[core]\n\thooksPath = {0}\n[init]\n\ttemplateDir = {1}\n",
        hooks.display(),
        home.display()
    );
    fs::write(home.join(".gitconfig"), config).unwrap();
    home
}

#[test]
fn the_users_logins_are_for_what_the_user_names() {
    let project = Project::new();
    let served = served(&project);
    let (repository, _) = sample(&served);
    repository.write("Dockerfile", "FROM base\nCOPY file /f\n");
    repository.commit();
    let server = served.over_http(Some("own"));
    let url = format!("http://{}/sample.git", server.address());
    let home = home(&project);
    let with_home = |command: &mut Command| {
        command.env_remove("XDG_CONFIG_HOME").env("HOME", &home);
        // As within a hook.
        command
            .env("GIT_DIR", "/nowhere")
            .env("GIT_INDEX_FILE", "/nowhere");
        Done::of(command)
    };
    let done = with_home(&mut project.bryo.command(["build", "-t", "made", &url]));
    assert!(done.status.success(), "{done}");
    assert_eq!(project.sh("cat /f"), "one");
    let done = with_home(&mut project.command(&format!("FROM base\nADD {url} /r\n"), &[]));
    assert!(done.stderr.contains("terminal prompts disabled"), "{done}");
    assert!(!home.join("ran").exists(), "a hook ran");
    project.is_clean();
}

/// They are what the repository's author names.
#[test]
fn the_users_logins_are_not_for_submodules() {
    let project = Project::new();
    let served = served(&project);
    let (_, commit) = sample(&served);
    let (open, closed) = (served.over_http(None), served.over_http(Some("own")));
    let home = home(&project);
    for (name, server) in [("easy", &open), ("private", &closed)] {
        let outer = served.repository(name);
        outer.write("Dockerfile", "FROM base\nCOPY . /r\n");
        outer.commit();
        outer.submodule(
            "inner",
            &format!("http://{}/sample.git", server.address()),
            &commit,
        );
    }
    let build = |outer: &str| {
        let url = format!("http://{}/{outer}", open.address());
        let mut command = project.bryo.command(["build", "-t", "made", &url]);
        Done::of(command.env_remove("XDG_CONFIG_HOME").env("HOME", &home))
    };
    let done = build("easy.git");
    assert!(done.status.success(), "{done}");
    assert_eq!(project.sh("cat /r/inner/file"), "one");
    let done = build("private.git");
    let said = done.stderr.lines().last().unwrap();
    for words in [
        "cannot fetch the submodules of http://",
        "terminal prompts disabled",
        "--ssh default",
    ] {
        assert!(said.contains(words), "{words}: {done}");
    }
    let done = build("private.git?submodules=false");
    assert!(done.status.success(), "{done}");
    project.is_clean();
}

/// A program in place of ssh, which tells how it was called and does here what it should do there.
#[test]
fn repositories_by_ssh_are_fetched_with_the_agent_of_the_build() {
    let project = Project::new();
    let served = served(&project);
    let (repository, commit) = sample(&served);
    repository.write("Dockerfile", "FROM base\nCOPY file /context\n");
    repository.commit();
    let programs = project.bryo.scratch("programs");
    fs::create_dir(&programs).unwrap();
    let told = project.bryo.scratch("told");
    let script = format!(
        "#!/bin/sh\necho \"$@ agent=$SSH_AUTH_SOCK\" >> {}\n(: < /dev/tty) 2> /dev/null && exit 3\n\
         for last; do :; done\neval \"exec $last\"\n",
        told.display()
    );
    fs::write(programs.join("ssh"), script).unwrap();
    mode(&programs.join("ssh"), 0o755);
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let place = repository.path("");
    let place = place.display();
    let told = || {
        let text = fs::read_to_string(&told).unwrap();
        fs::remove_file(&told).unwrap();
        text
    };
    // Any socket's name will do for a program that does not ask the agent.
    for url in [
        format!("me@host.example:{place}"),
        format!("ssh://me@host.example{place}"),
    ] {
        let text = format!("FROM base\nADD {url}#{commit} /r\n");
        let mut command = project.command(&text, &["--no-cache", "--ssh", "default=/run/agent"]);
        project.built(command.env("PATH", &path).env("GIT_SSH_COMMAND", "false"));
        assert_eq!(project.sh("cat /r/file"), "one");
        let told = told();
        for word in [
            "-F /dev/null",
            "BatchMode=yes",
            "me@host.example",
            "agent=/run/agent\n",
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
    // Where there is a terminal it is not asked either.
    let mut command = project
        .bryo
        .command(["build", "-t", "made", &format!("me@host.example:{place}")]);
    command.env("PATH", &path).env("SSH_AUTH_SOCK", "/run/mine");
    let done = Done::of(&mut on_terminal(&command));
    assert!(done.status.success(), "{done}");
    assert_eq!(project.sh("cat /context"), "one");
    let own = told();
    assert!(
        !own.contains("-F") && own.contains("agent=/run/mine\n"),
        "the user's own: {own}"
    );
    // A submodule of it has the build's.
    let outer = served.repository("outer");
    outer.write("Dockerfile", "FROM base\nCOPY inner/file /inner\n");
    outer.commit();
    outer.submodule("inner", &format!("me@host.example:{place}"), &commit);
    for (flags, agent) in [
        (&["--ssh", "default=/run/agent"][..], "agent=/run/agent\n"),
        (&[], "-o IdentityAgent=none"),
    ] {
        let mut command = project
            .bryo
            .command(["build", "-t", "made", &served.url("outer")]);
        command
            .args(flags)
            .env("PATH", &path)
            .env("SSH_AUTH_SOCK", "/run/mine");
        project.built(&mut command);
        assert_eq!(project.sh("cat /inner"), "one");
        let told = told();
        assert!(
            told.contains("-F /dev/null") && told.contains(agent) && !told.contains("/run/mine"),
            "{told}"
        );
    }
    project.is_clean();
}

/// A server that says nothing.
#[test]
fn git_does_not_outlive_its_builder() {
    let project = Project::new();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("FROM base\nADD git://{}/r /r\n", server.local_addr().unwrap());
    let mut builder = project
        .command(&text, &[])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (mut connection, _) = server.accept().unwrap();
    connection
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    // It is at work, and waits for an answer.
    let mut question = [0; 20];
    connection.read_exact(&mut question).unwrap();
    assert!(question.ends_with(b"git-upload-pack "), "{question:?}");
    builder.kill().unwrap();
    builder.wait().unwrap();
    // The connection ends with it.
    connection.read_to_end(&mut Vec::new()).unwrap();
    project.becomes_clean();
}

#[test]
fn a_repository_is_a_context() {
    let project = Project::new();
    let served = served(&project);
    let (repository, commit) = sample(&served);
    repository.write("Dockerfile", "FROM base\nCOPY . /r\n");
    repository.write(".dockerignore", "pro*\n");
    repository.write("below/Containerfile", "FROM base\nCOPY . /below\n");
    repository.write(
        "below/other",
        "FROM base\nCOPY below /other\nRUN --mount=target=/m cat /m/file > /read\n",
    );
    std::os::unix::fs::symlink("/etc/passwd", repository.path("below/out")).unwrap();
    repository.commit();
    let url = served.url("sample");
    let build = |words: &[&str], context: &str| {
        let mut command = project.bryo.command(["build", "-t", "made"]);
        project.built(command.args(words).arg(context))
    };
    let built = build(&[], &url);
    assert!(
        built
            .said
            .contains(&format!("[internal] load git source {url}\n")),
        "{}",
        built.said
    );
    assert_eq!(
        project.sh("ls -A /r"),
        ".dockerignore\nDockerfile\nbelow\nfile\nlink\n"
    );
    assert_eq!(build(&[], &url).cached.len(), 1, "by content");
    build(&["-f", "below/other"], &format!("{url}#main"));
    assert_eq!(
        project.sh("ls /other; cat /read"),
        "Containerfile\ndeep\nother\nout\none"
    );
    build(&[], &format!("{url}?branch=main&subdir=below"));
    assert_eq!(
        project.sh("ls /below; readlink /below/out"),
        "Containerfile\ndeep\nother\nout\n/etc/passwd\n"
    );
    let mut command = project
        .bryo
        .command(["build", "-t", "made", "-f", "-", &format!("{url}#{commit}")]);
    let done = fed(&mut command, "FROM base\nCOPY file /stdin\n");
    assert!(done.status.success(), "{done}");
    assert_eq!(project.sh("cat /stdin"), "one");
    build(&["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"], &url);
    assert_eq!(
        project.sh("cat /r/.git/HEAD"),
        format!("{}\n", repository.git(&["rev-parse", "HEAD"]))
    );
    // Beside another context.
    let other = format!("src={url}#next:below");
    project.build(
        "FROM base\nCOPY --from=src deep/file /named\n",
        &["--build-context", &other],
    );
    assert_eq!(project.sh("cat /named"), "deep");
    project.is_clean();

    let fails = |context: &str| {
        let done = project.bryo.run(["build", "-t", "made", context]);
        assert_eq!(done.status.code(), Some(1), "{done}");
        done.stderr
    };
    assert!(fails(&format!("{url}#v1")).contains("failed to read dockerfile: open Dockerfile: no such file"));
    assert!(fails(&format!("{url}#a..b")).contains("unable to prepare context: invalid ref"));
    assert!(fails(&format!("{url}#none")).contains("has no none"));
    // What leads out of the repository is read within it.
    let done = project.bryo.run(["build", "-f", "out", &format!("{url}#:below")]);
    assert!(done.stderr.contains("failed to read dockerfile"), "{done}");
    project.is_clean();
}
