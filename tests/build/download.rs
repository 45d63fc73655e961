//! ADD of files by URL.

use std::sync::Mutex;

use crate::common::hostile::{Answer, Hostile, Request};
use crate::common::{Done, Project};

/// Serves `/file` with this content, and what is named after how it goes wrong.
fn serve(content: &'static Mutex<Vec<u8>>) -> Hostile {
    Hostile::serve(move |request: &Request| {
        let whole = Answer::new(200, content.lock().unwrap().clone())
            .header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT");
        match request.path.split('?').next().unwrap() {
            "/moved" => Answer::new(302, "").header("Location", "/a/file.txt"),
            "/round" => Answer::new(302, "").header("Location", "/round"),
            "/elsewhere" => Answer::new(302, "").header("Location", "ftp://127.0.0.1/f"),
            "/missing" => Answer::new(404, "no"),
            "/cut" => whole.cut_after(2),
            "/dateless" => Answer::new(200, "x"),
            _ => whole,
        }
    })
}

#[test]
fn files_by_url_are_added() {
    static CONTENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    *CONTENT.lock().unwrap() = b"one".to_vec();
    let server = serve(&CONTENT);
    let url = format!("http://{}", server.address());
    let project = Project::new();
    project.write("local", "local");
    let text = format!(
        "FROM base\n\
         ENV SERVER={url}\n\
         ADD $SERVER/a/file.txt?x=y /to/\n\
         ADD --chmod=644 --chown=7:8 {url}/moved /renamed\n\
         ADD {url}/dateless local /both/\n"
    );
    let built = project.build(&text, &[]);
    assert_eq!(built.run.len(), 3, "{}", built.said);
    assert_eq!(
        project.sh(
            "cat /to/file.txt /renamed /both/*; cd /; stat -c '%a %Y %n' to/file.txt renamed both/dateless"
        ),
        "oneonexlocal600 1445412480 to/file.txt\n644 1445412480 renamed\n600 0 both/dateless\n"
    );
    assert_eq!(
        (project.owner("to/file.txt"), project.owner("renamed")),
        ("0/0".into(), "7/8".into())
    );
    // What it holds counts, and it is asked each time.
    let again = project.build(&text, &[]);
    assert_eq!((again.id, again.cached.len()), (built.id, 3));
    *CONTENT.lock().unwrap() = b"two".to_vec();
    assert_eq!(project.build(&text, &[]).cached.len(), 0);
    assert_eq!(project.sh("cat /to/file.txt"), "two");
    project.is_clean();
}

/// The stage is built by a worker, and gone through by the builder.
#[test]
fn a_file_is_fetched_once_in_a_build() {
    static CONTENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let server = serve(&CONTENT);
    let project = Project::new();
    let text = format!(
        "FROM base AS one\nADD http://{0}/one /f\nRUN echo ran >> /r\nFROM base AS two\nADD http://{0}/two /f\n\
         FROM one\nCOPY --from=two /f /g\n",
        server.address()
    );
    let built = project.build(&text, &["--no-cache", "--jobs", "2"]);
    assert_eq!(built.run.len(), 4, "{}", built.said);
    assert_eq!((server.seen("/one").len(), server.seen("/two").len()), (1, 1));
}

#[test]
fn a_checksum_is_that_of_the_file() {
    static CONTENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    *CONTENT.lock().unwrap() = b"one".to_vec();
    let server = serve(&CONTENT);
    let project = Project::new();
    let build = |sum: &str| {
        format!(
            "FROM base\nADD --checksum={sum} http://{}/f /f\n",
            server.address()
        )
    };
    // printf one | sha256sum
    let sum = "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    project.build(&build(sum), &[]);
    let named = |default: &str| build("$SUM").replace("ADD", &format!("ARG SUM={default}\nADD"));
    project.build(&named(sum), &[]);
    project.build(&named("none"), &["--build-arg", &format!("SUM={sum}")]);
    assert!(project.fails(&named("none"), &[]).contains("\"none\""));
    *CONTENT.lock().unwrap() = b"two".to_vec();
    let said = project.fails(&build(sum), &[]);
    assert!(said.contains("f has another checksum: sha256:3fc4ccfe"), "{said}");
    assert!(project.fails(&build("md5:00"), &[]).contains("--checksum"));
    assert!(
        project
            .fails(&format!("FROM base\nADD --checksum={sum} local /f\n"), &[])
            .contains("--checksum")
    );
    project.is_clean();
}

#[test]
fn archives_by_url_are_unpacked_only_if_asked() {
    static CONTENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let project = Project::new();
    project.write("in/side", "inside");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-czf", "-", "-C"]).arg(project.path("in")).arg("side");
    *CONTENT.lock().unwrap() = tar.output().unwrap().stdout;
    let server = serve(&CONTENT);
    let url = format!("http://{}/a.tar.gz", server.address());
    project.build(
        &format!("FROM base\nADD {url} /kept/\nADD --unpack=true {url} /unpacked/\n"),
        &[],
    );
    assert_eq!(project.sh("ls /kept; cat /unpacked/side"), "a.tar.gz\ninside");
}

#[test]
fn what_is_not_served_whole_is_an_error() {
    static CONTENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    *CONTENT.lock().unwrap() = b"whole".to_vec();
    let server = serve(&CONTENT);
    let project = Project::new();
    for (path, why) in [
        ("missing", "the server answered 404"),
        ("round", "too many redirects"),
        ("elsewhere", "neither HTTPS nor HTTP"),
        ("cut", "cannot fetch"),
    ] {
        let url = format!("http://user:secret@{}/{path}", server.address());
        let said = project.fails(
            &format!("FROM base\nARG URL={url}?token=secret\nADD $URL /f\n"),
            &[],
        );
        let line = said.trim_end().lines().last().unwrap();
        assert!(line.contains(why) && !line.contains("secret"), "{said}");
    }
    let two = format!("FROM base\nADD http://{0}/a http://{0}/b /f\n", server.address());
    assert!(project.fails(&two, &[]).contains("more than one source"));
    let nobody = Done::of(&mut project.command("FROM base\nADD http://127.0.0.1:1/f /f\n", &[]));
    assert_eq!(nobody.status.code(), Some(1), "{nobody}");
    project.is_clean();
}

/// A tar of a directory of the project, compressed by these flags of tar(1).
fn packed(project: &Project, directory: &str, flags: &str) -> Vec<u8> {
    let mut tar = std::process::Command::new("tar");
    tar.arg(format!("-c{flags}f"))
        .arg("-")
        .arg("-C")
        .arg(project.path(directory))
        .arg(".");
    let done = tar.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    done.stdout
}

#[test]
fn a_context_can_come_by_url() {
    static CONTENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let server = serve(&CONTENT);
    let project = Project::new();
    let url = |path: &str| format!("http://{}/{path}", server.address());
    let build = |words: &[&str]| project.built(project.bryo.command(["build", "-t", "made"]).args(words));
    project.write("in/Dockerfile", "FROM base\nCOPY . /r\n");
    project.write("in/.dockerignore", "hidden\n");
    project.write("in/hidden", "x");
    project.write(
        "in/sub/Other",
        "FROM base\nCOPY sub /sub\nRUN --mount=target=/m ls /m > /seen\n",
    );
    for flags in ["", "z", "J", "j"] {
        *CONTENT.lock().unwrap() = packed(&project, "in", flags);
        let built = build(&["--no-cache", &url("moved")]);
        assert!(
            built.said.contains("[internal] load remote build context"),
            "{}",
            built.said
        );
        assert_eq!(project.sh("ls -A /r"), ".dockerignore\nDockerfile\nsub\n");
    }
    build(&["-f", "sub/Other", &url("context.tar.gz")]);
    assert_eq!(project.sh("ls /sub; cat /seen"), "Other\nDockerfile\nsub\n");
    project.build(
        "FROM base\nCOPY --from=src sub/Other /named\n",
        &["--build-context", &format!("src={}", url("x"))],
    );
    assert_eq!(project.sh("cat /named | head -1"), "FROM base\n");
    // Text is a Dockerfile alone.
    *CONTENT.lock().unwrap() = b"FROM base\nRUN echo text > /text\n".to_vec();
    build(&[&url("Dockerfile")]);
    assert_eq!(project.sh("cat /text"), "text\n");
    project.is_clean();

    let fails = |code: i32, words: &[&str]| {
        let done = Done::of(project.bryo.command(["build"]).args(words));
        assert_eq!(done.status.code(), Some(code), "{done}");
        done.stderr.lines().last().unwrap().to_string()
    };
    let why = fails(125, &["-f", "x", &url("Dockerfile")]);
    assert!(
        why.contains("-f cannot be used with a Dockerfile by URL"),
        "{why}"
    );
    let why = fails(
        1,
        &[
            "--build-context",
            &format!("src={}", url("text")),
            &url("Dockerfile"),
        ],
    );
    assert!(why.contains("src: the file by URL is no archive"), "{why}");
    for (path, part) in [("missing", "the server answered 404"), ("cut", "cannot fetch")] {
        let why = fails(1, &[&url(path)]);
        assert!(why.contains(part), "{why}");
    }
    *CONTENT.lock().unwrap() = b"FROM base\nCOPY a /a\n".to_vec();
    assert!(
        fails(1, &[&url("Dockerfile")]).contains("no build context"),
        "without files"
    );
    *CONTENT.lock().unwrap() = vec![b'#'; 64 << 20];
    let why = fails(1, &[&url("Dockerfile")]);
    assert!(
        why.contains("bytes") || why.contains("large") || why.contains("long"),
        "{why}"
    );
    project.is_clean();
}

/// Serves a file that has a version, and whose place may move. What the version is called is the first line's.
fn serve_versions(content: &'static Mutex<Vec<u8>>, header: &'static str) -> Hostile {
    Hostile::serve(move |request: &Request| {
        let content = content.lock().unwrap().clone();
        let version =
            String::from_utf8_lossy(content.split(|byte| *byte == b'\n').next().unwrap()).into_owned();
        let asked = match header {
            "ETag" => request.header("if-none-match"),
            _ => request.header("if-modified-since"),
        };
        let place = request.path.as_str();
        if place == "/lies" {
            return Answer::new(304, "");
        }
        if place == "/latest" {
            return Answer::new(302, "").header("Location", format!("/{}", content.len()));
        }
        let answer = match asked == Some(&version) {
            true => Answer::new(304, "").without_length(),
            false => Answer::new(200, content),
        };
        answer
            .header(header, version)
            .header("Date", "Wed, 21 Oct 2015 07:30:00 GMT")
    })
}

/// The last request: was it a question whether it had changed?
fn had_condition(server: &Hostile) -> bool {
    let seen = server.seen("");
    let last = seen.last().unwrap();
    last.header("if-none-match").is_some() || last.header("if-modified-since").is_some()
}

#[test]
fn a_file_that_is_unchanged_is_not_fetched_again() {
    static BY_TAG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    static BY_TIME: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    for (content, header, version, next) in [
        (&BY_TAG, "ETag", "\"one\"", "\"two\""),
        (
            &BY_TIME,
            "Last-Modified",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "Wed, 21 Oct 2015 07:28:30 GMT",
        ),
    ] {
        let server = serve_versions(content, header);
        let project = Project::new();
        let url = format!("http://{}/latest", server.address());
        let text = |before: &str| format!("FROM base\nRUN echo {before} > /before\nADD {url} /f\n");
        let read = || project.sh("tail -n 1 /f; stat -c %Y /f");
        *content.lock().unwrap() = format!("{version}\nfirst\n").into();
        let built = project.build(&text("a"), &[]);
        assert!(
            built.said.contains(" fetched\n") && !had_condition(&server),
            "{}",
            built.said
        );
        let first = read();
        let again = project.build(&text("a"), &[]);
        assert_eq!((again.id, again.cached.len()), (built.id, 2));
        assert!(
            again.said.contains(" unchanged\n") && had_condition(&server),
            "{}",
            again.said
        );
        // Also where the layer must be made anew.
        let other = project.build(&text("b"), &[]);
        assert!(
            other.cached.is_empty() && other.said.contains(" unchanged\n"),
            "{}",
            other.said
        );
        assert_eq!(read(), first);
        // Another version; then the same by another URL, of whose versions nothing is known.
        *content.lock().unwrap() = format!("{next}\nother\n").into();
        assert!(project.build(&text("a"), &[]).said.contains(" fetched\n"));
        assert!(read().starts_with("other\n"));
        *content.lock().unwrap() = format!("{next}\nlonger than before\n").into();
        assert!(project.build(&text("a"), &[]).said.contains(" fetched\n"));
        assert!(
            !had_condition(&server) && read().starts_with("longer"),
            "after a redirect elsewhere"
        );
        // Who wants no cache has none; nor is one left after a prune.
        project.build(&text("a"), &["--no-cache"]);
        assert!(!had_condition(&server));
        project.build(&text("a"), &[]);
        assert!(had_condition(&server));
        project.bryo.ok(["builder", "prune", "-f"]);
        project.build(&text("a"), &[]);
        assert!(!had_condition(&server));
        project.is_clean();
    }
}

#[test]
fn what_was_kept_of_a_file_is_only_believed_if_it_is_whole() {
    static CONTENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    *CONTENT.lock().unwrap() = b"\"v\"\ncontent\n".to_vec();
    let server = serve_versions(&CONTENT, "ETag");
    let project = Project::new();
    let text = format!("FROM base\nADD http://{}/f /f\n", server.address());
    project.build(&text, &[]);
    let kept: Vec<_> = std::fs::read_dir(project.bryo.state().join("urls"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    for path in &kept {
        project.build(&text, &[]);
        assert!(had_condition(&server));
        let mut bytes = std::fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
        let built = project.build(&text, &[]);
        assert!(
            !had_condition(&server) && built.cached.len() == 1,
            "{}",
            built.said
        );
    }
    // One of a known checksum need not be asked for.
    let asked = server.seen("/f").len();
    // printf '"v"\ncontent\n' | sha256sum
    let sum = "sha256:d05ce81f33822d79a7731a62c90b87e19b0da756f4d02913dc713f476f997ec2";
    project.build(&text.replace("ADD", &format!("ADD --checksum={sum}")), &[]);
    assert_eq!(server.seen("/f").len(), asked);
    // A server that says so unasked.
    let said = project.fails(&text.replace("/f /f", "/lies /f"), &[]);
    assert!(said.contains("the server answered 304"), "{said}");
    project.is_clean();
}

/// CVE-2020-15157, of a file by URL: its login is for the host that the URL names.
#[test]
fn a_login_in_a_url_is_shown_to_its_host_alone() {
    const LOGIN: &str = "Basic dXNlcjpzZWNyZXQ=";
    let elsewhere = Hostile::serve(|_| Answer::new(200, "content"));
    let target = elsewhere.address().to_owned();
    let server = Hostile::serve(move |request| match request.header("authorization") {
        Some(LOGIN) => Answer::new(302, "").header("Location", format!("http://{target}/moved")),
        _ => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let project = Project::new();
    let text = format!(
        "FROM base\nADD http://user:secret@{}/file /file\n",
        server.address()
    );
    project.build(&text, &[]);
    assert_eq!(project.sh("cat /file"), "content");
    let asked = elsewhere.seen("/moved");
    assert!(
        !asked.is_empty()
            && asked
                .iter()
                .all(|request| request.header("authorization").is_none()),
        "{asked:?}"
    );
}
