//! Are ordinary projects built, and do they then work? Each directory of `tests/dockerfiles/` is one, with the Dockerfile
//! that its users would write; names like `python:3.11` are Debian's programs, of the image `workloads`. `elsewhere.rs` asks
//! whether others take the images.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Once, OnceLock};

use super::common::{Bryo, Done, until};
use super::workloads;

/// The store with all bases.
pub(super) fn store() -> &'static Bryo {
    static TAGGED: Once = Once::new();
    let (bryo, image) = workloads();
    TAGGED.call_once(|| {
        for base in [
            "python:3.11",
            "node:18",
            "gcc:12",
            "rust:1",
            "nginx:1",
            "debian:12",
        ] {
            bryo.ok(["tag", image, base]);
        }
    });
    bryo
}

/// All projects.
pub(super) const NAMES: [&str; 5] = ["python", "node", "cpp", "rust", "site"];

/// A wheel is a zip with three files about it.
const WHEEL: &str = "mkdir wheels greetings-1.2.dist-info\n\
    printf 'Metadata-Version: 2.1\\nName: greetings\\nVersion: 1.2\\n' > greetings-1.2.dist-info/METADATA\n\
    printf 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n' > greetings-1.2.dist-info/WHEEL\n\
    printf 'greetings/__init__.py,,\\ngreetings-1.2.dist-info/METADATA,,\\ngreetings-1.2.dist-info/WHEEL,,\\n\
    greetings-1.2.dist-info/RECORD,,\\n' > greetings-1.2.dist-info/RECORD\n\
    python3 -m zipfile -c wheels/greetings-1.2-py3-none-any.whl greetings greetings-1.2.dist-info\n";

/// A project, copied to where the test may change it.
struct Project {
    /// What its image is called.
    image: String,
    directory: PathBuf,
}

impl Project {
    /// Where it was built first, built once more: for an image of its own name.
    fn new(name: &'static str) -> Project {
        let (image, directory) = (name.into(), first(name).directory.clone());
        let project = Project { image, directory };
        project.build(flags(name));
        project
    }

    /// A copy of its own for an image of this name, with what its author made before the first build.
    fn building(name: &str, image: &str) -> Project {
        let directory = store().scratch(&image.replace(['/', ':'], "-"));
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/dockerfiles")
            .join(name);
        let status = Command::new("cp").arg("-r").args([&from, &directory]).status();
        assert!(status.unwrap().success());
        let image = image.into();
        let project = Project { image, directory };
        match name {
            "python" => project.sh(WHEEL),
            "node" => {
                project.sh(
                    "mkdir vendor && tar -czf vendor/greet-1.0.0.tgz --transform 's,^greet,package,' greet",
                );
            }
            _ => {}
        }
        project
    }

    /// Runs a script in the project, on this machine.
    fn sh(&self, script: &str) {
        let mut shell = Command::new("sh");
        let done = Done::of(shell.args(["-ec", script]).current_dir(&self.directory));
        assert!(done.status.success(), "{done}");
    }

    /// Builds; gives what was said.
    #[track_caller]
    fn build(&self, flags: &[&str]) -> String {
        let mut command = store().command(["build", "-t", &self.image]);
        let done = Done::of(command.args(flags).arg(".").current_dir(&self.directory));
        assert!(done.status.success(), "{done}");
        done.stderr
    }

    fn run(&self, words: &[&str]) -> String {
        let mut all = vec!["run", "--rm", &self.image];
        all.extend(words);
        store().ok(all)
    }
}

/// A project's first build.
struct Built {
    said: String,
    directory: PathBuf,
}

/// The first build of a project, whoever asked for it: all tests share a store, and its cache. Its image stays `first-NAME`.
fn first(name: &'static str) -> &'static Built {
    static BUILT: LazyLock<BTreeMap<&str, OnceLock<Built>>> =
        LazyLock::new(|| NAMES.map(|name| (name, OnceLock::new())).into());
    BUILT[name].get_or_init(|| {
        let project = Project::building(name, &first_image(name));
        let said = project.build(flags(name));
        let directory = project.directory;
        Built { said, directory }
    })
}

/// The image of a project's first build.
pub(super) fn first_image_of(name: &'static str) -> String {
    first(name);
    first_image(name)
}

fn first_image(name: &str) -> String {
    format!("first-{name}")
}

/// What a project is built with.
fn flags(name: &str) -> &'static [&'static str] {
    match name {
        "site" => &["--build-arg", "TITLE=about us"],
        _ => &[],
    }
}

fn ask(name: &str, path: &str) -> String {
    answer(
        &mut store().command(["run", "--rm", "--network", "host", name]),
        path,
    )
}

/// A service that says where it listens, and answers once.
pub(super) fn answer(service: &mut Command, path: &str) -> String {
    let mut service = service.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(service.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let address = line
        .trim_end()
        .strip_prefix("listening on ")
        .expect("its address");
    let answer = get(TcpStream::connect(address).unwrap(), path);
    assert!(service.wait().unwrap().success());
    answer
}

fn get(mut connection: impl Read + Write, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_python_service_with_wheels() {
    let project = Project::new("python");
    let answer = ask("python", "/python");
    assert!(
        answer.ends_with("\r\n\r\nhello from a wheel, python\n"),
        "{answer}"
    );
    // The wheels themselves were only lent.
    assert_eq!(project.run(&["sh", "-c", "ls -d /wheels; ls"]), "service.py\n");
}

#[test]
fn a_node_service_with_packages() {
    let project = Project::new("node");
    let answer = ask("node", "/node");
    assert!(
        answer.ends_with("\r\n\r\nhello from a package, node\n"),
        "{answer}"
    );
    // Another answer costs no installation.
    project.sh("sed -i 's/request.url.slice(1)/\"all\"/' server.js");
    let said = project.build(&[]);
    assert_eq!(said.matches(" CACHED\n").count(), 4, "{said}");
    let answer = ask("node", "/node");
    assert!(
        answer.ends_with("\r\n\r\nhello from a package, all\n"),
        "{answer}"
    );
}

#[test]
fn a_program_of_cpp_on_scratch() {
    let project = Project::new("cpp");
    assert_eq!(project.run(&[]), "2 3 5 7 \n");
    assert_eq!(project.run(&["20"]), "2 3 5 7 11 13 17 19 \n");
    let layers = store().ok(["image", "inspect", "--format", "{{len .RootFS.Layers}}", "cpp"]);
    assert_eq!(layers, "1\n");
    // A change of the flags compiles again, of the last stage does not.
    let said = project.build(&["--build-arg", "CXXFLAGS=-O0"]);
    assert!(said.contains(" g++ -O0 "), "{said}");
    project.sh("sed -i 's/\"10\"/\"6\"/' Dockerfile");
    let said = project.build(&[]);
    assert!(!said.contains(" g++ "), "{said}");
    assert_eq!(project.run(&[]), "2 3 5 \n");
}

#[test]
fn a_program_of_rust_with_cached_dependencies() {
    let said = &first("rust").said;
    assert!(said.contains("Compiling words v1.0.0"), "{said}");
    let project = Project::new("rust");
    assert_eq!(project.run(&["one", "two three"]), "3 words\n");
    project.sh("sed -i 's/ words\"/ word(s)\"/' src/main.rs");
    let said = project.build(&[]);
    assert!(said.contains("Compiling count v1.0.0"), "{said}");
    assert!(!said.contains("Compiling words"), "{said}");
    assert_eq!(project.run(&["one", "two three"]), "3 word(s)\n");
}

#[test]
fn a_site_on_nginx() {
    let said = &first("site").said;
    assert!(said.contains("nginx.conf test is successful"), "{said}");
    Project::new("site");
    let socket = Site::start(&store().scratch("socket"), |volume| {
        store().command(["run", "--rm", "--name", "site", "-v", volume, "site"])
    });
    assert!(socket.get("/").ends_with("\r\n\r\n<title>home</title>\n"));
    assert!(
        socket
            .get("/about.html")
            .ends_with("\r\n\r\n<title>about us</title>\n")
    );
    let missing = socket.get("/other");
    assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    assert!(missing.ends_with("<title>nothing here</title>\n"), "{missing}");
    // By the image's own signal, on which nginx ends well.
    store().ok(["stop", "site"]);
    socket.ends_well();
}

/// nginx at a socket.
pub(super) struct Site {
    process: Child,
    socket: PathBuf,
}

impl Site {
    /// In a new directory, which the command mounts.
    pub(super) fn start(directory: &Path, run: impl FnOnce(&str) -> Command) -> Site {
        std::fs::create_dir(directory).unwrap();
        let process = run(&format!("{}:/run/site", directory.display())).spawn();
        let socket = directory.join("socket");
        until("nginx listens", || UnixStream::connect(&socket).is_ok());
        Site {
            process: process.unwrap(),
            socket,
        }
    }

    pub(super) fn get(&self, path: &str) -> String {
        get(UnixStream::connect(&self.socket).unwrap(), path)
    }

    pub(super) fn ends_well(mut self) {
        assert!(self.process.wait().unwrap().success());
    }
}
