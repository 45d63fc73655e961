//! The own image of the article that Bryo was made from, word for word: a web server in Go, for which Docker Hub's
//! `golang:1.18` comes from a mirror.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::common::{Bryo, Done, Podman, Registry, has_id_range, once_free, skopeo, until};

/// The article's project, and the mirror.
struct Story {
    bryo: Bryo,
    mirror: Registry,
}

impl Story {
    fn new() -> Story {
        let (bryo, mirror) = (Bryo::new(), Registry::above_shared());
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/go");
        fs::create_dir(bryo.scratch("go")).unwrap();
        for name in ["Dockerfile", "go.mod", "go.sum", "main.go"] {
            fs::write(
                bryo.scratch("go").join(name),
                fs::read(project.join(name)).unwrap(),
            )
            .unwrap();
        }
        let settings = format!(
            "[[registry]]\nprefix = 'docker.io'\n[[registry.mirror]]\nlocation = '{}'\n",
            mirror.address()
        );
        fs::write(bryo.scratch("registries.toml"), settings).unwrap();
        Story { bryo, mirror }
    }

    /// A line of the article.
    fn command(&self, line: &str) -> Command {
        let mut command = self.bryo.command(line.split_whitespace());
        command
            .current_dir(self.bryo.scratch("go"))
            .env("BRYO_REGISTRIES", self.bryo.scratch("registries.toml"));
        command
    }

    #[track_caller]
    fn types(&self, line: &str) -> Done {
        let done = Done::of(&mut self.command(line));
        assert!(done.status.success(), "{done}");
        done
    }
}

/// The titles of steps that the cache had.
fn cached(said: &str) -> Vec<&str> {
    let lines: Vec<&str> = said.lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[1].ends_with(" CACHED"));
    pairs
        .filter_map(|pair| Some(pair[0].split_once("] ")?.1))
        .collect()
}

/// podman runs the image from a registry, and skopeo reads it there.
fn elsewhere(story: &Story) {
    // Where the layers of its base are already.
    let image = story.mirror.image("library/golang:app");
    story.types(&format!("push -q my-go-app {image}"));
    let place = format!("docker://{image}");
    let seen = skopeo(["inspect", "--tls-verify=false", "--config", &place]);
    let seen: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    let own = story.types("image inspect my-go-app").stdout;
    let own: serde_json::Value = serde_json::from_str(&own).unwrap();
    assert_eq!(seen["rootfs"]["diff_ids"], own[0]["RootFS"]["Layers"]);
    assert_eq!(seen["config"]["Cmd"], own[0]["Config"]["Cmd"]);
    if !has_id_range() {
        println!("podman did not run it: it cannot unpack images with one id");
        return;
    }
    let podman = Podman::on_overlay(&story.bryo);
    podman.pull(&image);
    let done = Done::of(&mut podman.run(&[&image]));
    assert_eq!(done.stdout, "hello, terminal\n", "{done}");
}

#[test]
fn the_articles_own_image() {
    let story = Story::new();
    let built = story.types("build -t my-go-app .");
    assert!(built.stderr.contains("[1] FROM golang:1.18\n"), "{built}");
    assert!(
        built
            .stderr
            .contains("naming to docker.io/library/my-go-app:latest\n"),
        "{built}"
    );
    assert!(cached(&built.stderr).is_empty(), "{built}");

    // The server, asked once.
    let started = once_free(8080, || {
        Done::of(&mut story.command("run -d -p 8080:8080 my-go-app"))
    });
    assert!(started.status.success(), "{started}");
    let mut answer = String::new();
    until("an answer", || {
        answer.clear();
        let mut client = TcpStream::connect("localhost:8080").unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok()
            && client.read_to_string(&mut answer).is_ok_and(|read| read > 0)
    });
    assert!(answer.ends_with("\r\n\r\nhello, visitor\n"), "{answer}");
    let id = started.stdout.trim_end();
    assert_eq!(story.types(&format!("wait {id}")).stdout, "0\n");
    story.types(&format!("rm {id}"));

    // Only the code changes.
    let code = story.bryo.scratch("go/main.go");
    let text = fs::read_to_string(&code).unwrap();
    let short = "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.com/greet\"\n)\n\nfunc main() { fmt.Println(greet.Greet(\"terminal\")) }\n";
    assert_ne!(text, short);
    fs::write(code, short).unwrap();
    let first = story.types("images -q --no-trunc my-go-app").stdout;
    let built = story.types("build -t my-go-app .");
    let wanted = [
        "WORKDIR /app",
        "COPY go.mod ./",
        "COPY go.sum ./",
        "RUN go mod download",
    ];
    assert_eq!(cached(&built.stderr), wanted, "{built}");
    assert!(built.stderr.contains("[7/7] RUN go build -o myapp\n"), "{built}");
    assert_eq!(story.types("run --rm my-go-app").stdout, "hello, terminal\n");

    elsewhere(&story);

    let images = story.types("images").stdout;
    for name in ["my-go-app ", "golang ", "<none> "] {
        assert_eq!(images.matches(&format!("\n{name}")).count(), 1, "{images}");
    }
    // The image that lost its name.
    let removed = story
        .types(&format!("rmi {}", &first["sha256:".len()..][..12]))
        .stdout;
    assert!(
        removed.contains(&format!("Deleted: {}", first.trim_end())),
        "{removed}"
    );
    story.types("image prune -f");
    assert_eq!(story.types("run --rm my-go-app").stdout, "hello, terminal\n");
    story.types("store check");

    // What is there needs no network.
    drop(story.mirror);
    let mut again = story.bryo.command(["build", "-q", "-t", "my-go-app", "."]);
    let done = Done::of(again.current_dir(story.bryo.scratch("go")));
    assert!(done.status.success(), "{done}");
}
