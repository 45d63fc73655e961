//! `run` of an image that is not in the store: pulled first, then started by the same process.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::process::Command;
use std::time::Duration;

use common::hostile::{Blobs, Hostile, digest, gzip};
use common::{Bryo, Done, Registry, on_terminal};

fn lost(image: &str) -> String {
    format!("Unable to find image '{image}:latest' locally")
}

#[test]
fn a_missing_image_is_pulled_first() {
    let (bryo, registry) = (Bryo::new(), Registry::shared());
    let image = registry.image("busybox");
    let words = [
        "run",
        "--rm",
        &image,
        "sh",
        "-c",
        "echo out; echo err >&2; exit 3",
    ];
    let done = bryo.run(words);
    // What the pull says stays off the command's output.
    assert_eq!((done.status.code(), &*done.stdout), (Some(3), "out\n"), "{done}");
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(
        (lines[0], lines[lines.len() - 1]),
        (&*lost(&image), "err"),
        "{done}"
    );
    assert!(
        done.stderr.contains("Pull complete") && !done.stderr.contains("default tag"),
        "{done}"
    );
    assert!(
        done.stderr.contains("Status: Downloaded newer image for"),
        "{done}"
    );
    // The next time it is there, without the registry too.
    drop(registry);
    for flags in [&["run", "--rm"][..], &["run", "--rm", "--pull", "missing"]] {
        let done = bryo.run(flags.iter().chain(&words[2..]));
        assert_eq!((done.status.code(), &*done.stderr), (Some(3), "err\n"), "{done}");
    }
    let done = bryo.run(["run", "--rm", "--pull", "always", &image, "true"]);
    assert_eq!((done.status.code(), &*done.stdout), (Some(125), ""), "{done}");
    assert!(
        !done.stderr.contains("Unable to find image"),
        "it was not looked for: {done}"
    );
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

#[test]
fn quietly() {
    let (bryo, registry) = (Bryo::new(), Registry::shared());
    let done = bryo.run(["run", "--rm", "-q", &registry.image("busybox"), "echo", "hi"]);
    assert_eq!((&*done.stdout, &*done.stderr), ("hi\n", ""), "{done}");
}

#[test]
fn in_the_background() {
    let (bryo, registry) = (Bryo::new(), Registry::shared());
    let image = registry.image("busybox");
    let done = bryo.run(["run", "-d", "--name", "behind", &image, "sh", "-c", "exit 5"]);
    assert!(
        done.status.success() && done.stderr.starts_with(&lost(&image)),
        "{done}"
    );
    let id = done.stdout.trim_end();
    assert!(id.len() == 64 && done.stdout.lines().count() == 1, "{done}");
    assert_eq!(bryo.ok(["wait", "behind"]), "5\n");
    // `create` pulls as well.
    let (bryo, image) = (Bryo::new(), registry.image("busybox"));
    let id = bryo.ok(["create", "-q", &image, "true"]);
    assert_eq!(bryo.ok(["ps", "-aq", "--no-trunc"]), id);
}

#[test]
fn on_a_terminal() {
    let (bryo, registry) = (Bryo::new(), Registry::shared());
    let image = registry.image("busybox");
    let tool = bryo.command(["run", "--rm", "-it", &image, "sh", "-c", "tty; exit 7"]);
    let done = Done::of(&mut on_terminal(&tool));
    assert_eq!(done.status.code(), Some(7), "{done}");
    // `script` may say the end of its input, which the terminal echoes.
    assert!(
        done.stdout.contains(&lost(&image)) && done.stdout.contains("/dev/pts/0\r\n"),
        "{done}"
    );
    assert!(done.stdout.contains(": Pulling ["), "no bar: {done}");
}

/// A log gets lines and nothing that steers a terminal, even if all else is one.
#[test]
fn into_a_log() {
    let blobs = Blobs::small(1 << 20);
    let registry = Hostile::serve(move |request| blobs.answer(request).waiting(Duration::from_millis(300)));
    let image = format!("{}/image", registry.address());
    // `run` fails in the end, since there is no command in the image.
    for (words, log, wanted) in [(&["pull"][..], ">", 7), (&["run", "--rm"], "2>", 5)] {
        let bryo = Bryo::new();
        let tool = bryo.command(words.iter().chain(&[&*image]));
        let mut shell = Command::new("sh");
        let file = bryo.scratch("log");
        let script = format!("\"$@\" {log} {}", file.display());
        shell
            .args(["-c", &script, "sh"])
            .arg(tool.get_program())
            .args(tool.get_args());
        shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let done = Done::of(&mut on_terminal(&shell));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(": Pull complete\n"), "{text:?}\n{done}");
        assert!(!text.contains(['\x1b', '\r']), "{text:?}\n{done}");
        assert!(text.lines().count() >= wanted, "{text:?}\n{done}");
    }
}

/// An image whose one file says which it is.
fn edition(says: &str) -> Blobs {
    let mut layer = tar::Builder::new(Vec::new());
    layer
        .append_path_with_name("/bin/busybox", "bin/busybox")
        .unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(says.len() as u64);
    header.set_mode(0o644);
    layer
        .append_data(&mut header, "edition", says.as_bytes())
        .unwrap();
    let layer = layer.into_inner().unwrap();
    Blobs::of(&[(gzip(&layer), digest(&layer))])
}

/// A tag that moves: only `--pull always` looks.
#[test]
fn always_asks_the_registry_again() {
    let (first, second) = (edition("first"), edition("second"));
    let moved = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let registry = Hostile::serve({
        let moved = moved.clone();
        move |request| match moved.load(std::sync::atomic::Ordering::SeqCst) {
            false => first.answer(request),
            true => second.answer(request),
        }
    });
    let image = format!("{}/moving", registry.address());
    let bryo = Bryo::new();
    let seen = |flags: &[&str]| {
        let command = [&image, "/bin/busybox", "cat", "/edition"];
        bryo.ok(["run", "--rm"].iter().chain(flags).chain(&command))
    };
    assert_eq!(seen(&[]), "first");
    moved.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(seen(&[]), "first");
    assert_eq!(seen(&["--pull", "missing"]), "first");
    assert_eq!(seen(&["--pull=never"]), "first");
    assert_eq!(seen(&["--pull", "always"]), "second");
    assert_eq!(seen(&["--pull", "always"]), "second");
}

#[test]
fn what_cannot_be_pulled_leaves_nothing() {
    let (bryo, registry) = (Bryo::new(), Registry::shared());
    let file = bryo.scratch("id");
    let cidfile = format!("--cidfile={}", file.display());
    let message = bryo.fails(125, ["run", "--rm", &cidfile, &registry.image("nothing"), "true"]);
    let lines: Vec<&str> = message.lines().collect();
    assert!(lines.len() == 2 && lines[1].contains("nothing"), "{message}");
    assert!(
        !file.exists(),
        "an empty file would be in the way of the next try"
    );
    assert_eq!(bryo.ok(["ps", "-aq"]) + &bryo.ok(["images", "-q"]), "");
}
