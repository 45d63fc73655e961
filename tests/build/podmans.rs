//! podman's and buildah's flags of `build`: what each does, in a table; podman beside it where it can build.

use std::fs;
use std::process::Command;

use crate::common::{Done, Podman, Project, Registry, has_id_range};

/// What is looked at when an image was built.
enum Look {
    /// What a template of `inspect` gives.
    At(&'static str),
    /// What its file `/seen` holds.
    Seen,
}

use Look::{At, Seen};

/// Flags (`DIR` is a directory beside the context, with `file`), the Dockerfile, where to look, what is there; and whether podman
/// 4.3 has it as well.
type Row = (&'static str, &'static str, Look, &'static str, bool);

const TABLE: &[Row] = &[
    // What RUN sees.
    (
        "--add-host named:10.1.2.3",
        "FROM base\nRUN grep -cE '^10.1.2.3[[:space:]]+named' /etc/hosts > /seen",
        Seen,
        "1",
        true,
    ),
    (
        "--build-arg A=1 --build-arg=B=x=y",
        "FROM base\nARG A\nARG B=2\nRUN echo $A $B > /seen",
        Seen,
        "1 x=y",
        true,
    ),
    // (podman 4.3 gives them to the image alone.)
    (
        "--env E=1 --env=F=x=y",
        "FROM base\nRUN echo $E $F > /seen",
        Seen,
        "1 x=y",
        false,
    ),
    (
        "--secret id=s,src=DIR/file",
        "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s > /seen",
        Seen,
        "theirs",
        true,
    ),
    (
        "--volume DIR:/v:ro",
        "FROM base\nRUN cat /v/file > /seen; touch /v/new || echo refused >> /seen",
        Seen,
        "theirs\nrefused",
        true,
    ),
    (
        "-v DIR:/v:ro,z",
        "FROM base\nRUN cat /v/file > /seen",
        Seen,
        "theirs",
        true,
    ),
    (
        "--ulimit nofile=123:456",
        "FROM base\nRUN ulimit -n > /seen; ulimit -Hn >> /seen",
        Seen,
        "123\n456",
        true,
    ),
    (
        "--shm-size 1m",
        "FROM base\nRUN df -k /dev/shm | tail -n 1 | awk '{ print $2 }' > /seen",
        Seen,
        "1024",
        false,
    ),
    (
        "--network none",
        "FROM base\nRUN ls /sys/class/net > /seen",
        Seen,
        "lo",
        false,
    ),
    // Where things come from.
    (
        "--build-context other=DIR",
        "FROM base\nCOPY --from=other file /seen",
        Seen,
        "theirs",
        true,
    ),
    (
        "--from base",
        "FROM nowhere.invalid/other\nRUN echo x > /seen",
        Seen,
        "x",
        true,
    ),
    (
        "--ignorefile DIR/ignore",
        "FROM base\nCOPY . /c/\nRUN ls /c > /seen",
        Seen,
        "kept",
        true,
    ),
    (
        "--target first",
        "FROM base AS first\nRUN echo 1 > /seen\nFROM base\nRUN echo 2 > /seen",
        Seen,
        "1",
        true,
    ),
    ("--pull=never", "FROM base\nRUN echo x > /seen", Seen, "x", true),
    (
        "--pull=missing",
        "FROM base\nRUN echo x > /seen",
        Seen,
        "x",
        false,
    ),
    (
        "--platform linux/amd64",
        "FROM base\nARG TARGETARCH\nRUN echo $TARGETARCH > /seen",
        Seen,
        "amd64",
        true,
    ),
    (
        "--jobs 2",
        "FROM base AS a\nRUN echo 1 > /a\nFROM base AS b\nRUN echo 2 > /b\nFROM base\nCOPY --from=a /a /a\nCOPY --from=b /b /b\nRUN cat /a /b > /seen",
        Seen,
        "1\n2",
        true,
    ),
    (
        "--jobs 0",
        "FROM base AS a\nRUN echo 1 > /a\nFROM base\nCOPY --from=a /a /seen",
        Seen,
        "1",
        true,
    ),
    // What the image says of itself.
    (
        "--label a=b --label=c",
        "FROM base\nLABEL a=old d=e",
        At("{{index .Config.Labels \"a\"}}-{{index .Config.Labels \"c\"}}-{{index .Config.Labels \"d\"}}"),
        "b--e",
        true,
    ),
    (
        "--env E=1",
        "FROM base\nRUN true",
        At("{{range .Config.Env}}{{println .}}{{end}}"),
        "PATH=/bin:/usr/bin\nE=1",
        true,
    ),
    (
        "--unsetenv GONE",
        "FROM base\nENV GONE=1 KEPT=2",
        At("{{range .Config.Env}}{{println .}}{{end}}"),
        "PATH=/bin:/usr/bin\nKEPT=2",
        true,
    ),
    (
        "--unsetlabel gone",
        "FROM labelled",
        At("{{index .Config.Labels \"gone\"}}-{{index .Config.Labels \"kept\"}}"),
        "-2",
        false,
    ),
    (
        "--timestamp 86400",
        "FROM base\nRUN echo x > /x",
        At("{{.Created}}"),
        "1970-01-02T00:00:00",
        true,
    ),
    (
        "--timestamp 86400",
        "FROM base\nRUN touch /x\nFROM base\nCOPY --from=0 /x /x\nRUN stat -c %Y /x > /seen",
        Seen,
        "86400",
        false,
    ),
    (
        "--format docker",
        "FROM base\nHEALTHCHECK CMD true\nSHELL [\"/bin/ash\", \"-c\"]\nONBUILD RUN true",
        At("{{json .Config.OnBuild}}"),
        "[\"RUN true\"]",
        false,
    ),
    // How many layers there are above the base's one.
    (
        "--layers",
        "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2",
        At("{{len .RootFS.Layers}}"),
        "3",
        true,
    ),
    (
        "--layers=false",
        "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2",
        At("{{len .RootFS.Layers}}"),
        "2",
        true,
    ),
    (
        "--squash",
        "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2",
        At("{{len .RootFS.Layers}}"),
        "2",
        true,
    ),
    (
        "--squash-all",
        "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2",
        At("{{len .RootFS.Layers}}"),
        "1",
        true,
    ),
    (
        "--no-cache",
        "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2",
        At("{{len .RootFS.Layers}}"),
        "3",
        true,
    ),
];

/// A builder of either kind: its commands, and how it is told to build, to inspect, and to run.
struct Builder<'a> {
    command: &'a dyn Fn() -> Command,
    build: &'a [&'a str],
    run: &'a [&'a str],
}

impl Builder<'_> {
    fn said(&self, words: &[&str]) -> Result<String, String> {
        let done = Done::of((self.command)().args(words));
        match done.status.success() {
            true => Ok(done.stdout.trim_end().to_owned()),
            false => Err(done.to_string()),
        }
    }

    /// Builds by a row, and looks.
    fn found(
        &self,
        project: &Project,
        flags: &[&str],
        dockerfile: &str,
        look: &Look,
    ) -> Result<String, String> {
        let file = project.bryo.scratch("Rows");
        fs::write(&file, dockerfile).unwrap();
        let (file, context) = (file.display().to_string(), project.path("").display().to_string());
        let named = ["--tag", "made", "--tag=again", "--file", &file];
        self.said(&[self.build, &named, flags, &[&context]].concat())?;
        match look {
            At(template) => self.said(&["image", "inspect", "--format", template, "again"]),
            Seen => self.said(&[self.run, &["again", "cat", "/seen"]].concat()),
        }
    }
}

/// podman with the same base.
fn peer(project: &Project, registry: &Registry) -> Option<Podman> {
    if !has_id_range() {
        println!("not compared: podman cannot unpack images with one id");
        return None;
    }
    let podman = Podman::beside(&project.bryo);
    let image = registry.image("busybox");
    podman.pull(&image);
    let done = Done::of(podman.command().args(["tag", &image, "localhost/base"]));
    assert!(done.status.success(), "{done}");
    Some(podman)
}

#[test]
fn flags_do_what_they_do_for_podman() {
    let project = Project::new();
    let registry = Registry::shared();
    let directory = project.bryo.scratch("directory");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), "theirs\n").unwrap();
    fs::write(directory.join("ignore"), "left\n").unwrap();
    project.write("kept", "");
    project.write("left", "");
    project.build("FROM base\nLABEL gone=1 kept=2\n", &["-t", "labelled"]);
    let podman = peer(&project, &registry);
    let own = Builder {
        command: &|| project.bryo.command::<&str>([]),
        build: &["build", "-q"],
        run: &["run", "--rm"],
    };
    let mut wrong = Vec::new();
    for (flags, dockerfile, look, expected, theirs) in TABLE {
        let flags = flags.replace("DIR", directory.to_str().unwrap());
        let flags: Vec<&str> = flags.split(' ').collect();
        let is_right = |found: &Result<String, String>| match look {
            // A time goes on behind the seconds, or in a zone's name.
            At("{{.Created}}") => found
                .as_ref()
                .is_ok_and(|text| text.replacen(' ', "T", 1).starts_with(expected)),
            _ => found.as_deref() == Ok(*expected),
        };
        let found = own.found(&project, &flags, dockerfile, look);
        if !is_right(&found) {
            wrong.push(format!("{flags:?}: {found:?} instead of {expected:?}"));
        }
        if let Some(podman) = podman.as_ref().filter(|_| *theirs) {
            let peer = Builder {
                command: &|| podman.command(),
                build: &["build", "-q", "--isolation", "chroot"],
                run: &["run", "--rm", "--cgroups", "disabled", "--network", "host"],
            };
            let mut found = peer.found(&project, &flags, dockerfile, look);
            // It now and then loses what a short command wrote.
            if found.as_deref() == Ok("") {
                found = peer.found(&project, &flags, dockerfile, look);
            }
            if !is_right(&found) {
                wrong.push(format!("podman {flags:?}: {found:?} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    project.is_clean();
}

/// Where nothing depends on a flag, the image is the same with it, byte for byte, and so with several.
#[test]
fn flags_that_mean_nothing_change_nothing() {
    const NOTHING: &[&str] = &[
        "--rm",
        "--rm=false",
        "--force-rm",
        "--force-rm=false",
        "--compress",
        "--disable-content-trust",
        "--disable-content-trust=false",
        "--disable-compression",
        "--disable-compression=false",
        "--identity-label=false",
        "--skip-unused-stages",
        "--skip-unused-stages=true",
        "--http-proxy=false",
        "--allow=network.host",
        "--isolation=default",
        "--isolation=oci",
        "--isolation=rootless",
        "--retry=3",
        "--retry-delay=2s",
        "--no-hosts=false",
        "--all-platforms=false",
        "--debug=false",
        "--logsplit=false",
        "--omit-history=false",
        "--stdin=false",
        "--tls-verify",
        "--tls-verify=false",
        "--pull=false",
        "--layers=true",
        "--format=oci",
        "--network=default",
    ];
    let project = Project::new();
    let text = "FROM base AS unused\nRUN false\nFROM base\nRUN echo $HTTP_PROXY > /x\n";
    let built = |flags: &[&str]| {
        let mut command = project.command(text, &[&["--timestamp=86400"], flags].concat());
        project.built(command.env("HTTP_PROXY", "http://127.0.0.1:1")).id
    };
    let id = built(&[]);
    for flag in NOTHING {
        assert_eq!(built(&[flag]), id, "{flag}");
    }
    let together = [
        "--rm",
        "--force-rm",
        "--compress",
        "--retry=1",
        "--isolation=oci",
        "--no-cache",
    ];
    assert_eq!(built(&together), id);
    assert_eq!(project.sh("cat /x"), "\n");
}

/// `--iidfile`: the id with its algorithm, and nothing behind it, as podman writes it.
#[test]
fn an_ids_file_has_podmans_form() {
    let project = Project::new();
    let registry = Registry::shared();
    let file = project.bryo.scratch("id");
    let to = file.to_str().unwrap();
    let dockerfile = project.bryo.scratch("Dockerfile");
    let is_id = |text: &str| {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let built = project.build("FROM base\nLABEL a=b\n", &["--iidfile", to]);
    assert_eq!(fs::read_to_string(&file).unwrap(), built.id);
    assert!(is_id(&built.id));
    if let Some(podman) = peer(&project, &registry) {
        let mut build = podman.command();
        build.args(["build", "-q", "--iidfile", to, "-f"]);
        let done = Done::of(build.arg(&dockerfile).arg(project.path("")));
        assert!(done.status.success(), "{done}");
        let text = fs::read_to_string(&file).unwrap();
        assert!(is_id(&text), "{text:?}");
    }
}
