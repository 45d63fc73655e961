//! `--output`: a tree in a directory or a tar; an image in an archive, or in a registry.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Bryo, Done, Mode, Project, Registry, mode, on_terminal, skopeo};
use crate::layout::{Layout, parsed};

const TEXT: &str = "FROM base AS made\n\
    RUN mkdir -p /out/dir && echo content > /out/dir/file && chmod 750 /out/dir/file && ln -s dir/file /out/link \
    && ln /out/dir/file /out/second && echo s > /out/set && chmod 4711 /out/set\n\
    FROM scratch\n\
    COPY --from=made --chown=7:8 /out /\n";

#[test]
fn a_tree_goes_into_a_directory() {
    let project = Project::new();
    let out = project.bryo.scratch("out");
    fs::create_dir(&out).unwrap();
    mode(&out, 0o700);
    // What an earlier tree could have left: links that lead elsewhere, at names of files and of directories.
    let elsewhere = project.bryo.scratch("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("kept"), "kept").unwrap();
    symlink(&elsewhere, out.join("dir")).unwrap();
    symlink(elsewhere.join("kept"), out.join("second")).unwrap();
    fs::write(out.join("link"), "in the way").unwrap();
    fs::write(out.join("other"), "other").unwrap();
    for flags in [
        vec![format!("--output={}", out.display())],
        vec!["-o".into(), format!("type=local,dest={}", out.display())],
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let done = Done::of(&mut project.command(TEXT, &flags));
        assert!(done.status.success() && done.stdout.is_empty(), "{done}");
        let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(
            read("dir/file") + &read("link") + &read("second") + &read("other"),
            "content\n".repeat(3) + "other"
        );
        assert_eq!(
            fs::read_link(out.join("link")).unwrap().to_str(),
            Some("dir/file")
        );
        let file = fs::symlink_metadata(out.join("dir/file")).unwrap();
        assert_eq!(
            (file.permissions().mode() & 0o7777, file.uid()),
            (0o750, nix::unistd::getuid().as_raw())
        );
        assert_eq!(
            fs::metadata(out.join("set")).unwrap().permissions().mode() & 0o7777,
            0o711
        );
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(elsewhere.join("kept")).unwrap(), "kept");
    }
    assert!(!project.bryo.ok(["images"]).contains("made"), "no image is made");
    project.is_clean();
}

#[test]
fn a_tree_becomes_a_tar() {
    let project = Project::new();
    let file = project.bryo.scratch("tree.tar");
    let to = format!("type=tar,dest={}", file.display());
    assert!(
        Done::of(&mut project.command(TEXT, &["-o", &to]))
            .status
            .success()
    );
    let mut list = Command::new("tar");
    list.args(["--numeric-owner", "-tvf"]).arg(&file);
    let listed = Done::of(&mut list).stdout;
    let found: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        })
        .collect();
    let wanted = [
        "drwxr-xr-x 7/8 dir/",
        "-rwxr-x--- 7/8 dir/file",
        "lrwxrwxrwx 7/8 link -> dir/file",
        "hrwxr-x--- 7/8 second link to dir/file",
        "-rws--x--x 7/8 set",
    ];
    for line in wanted {
        assert!(found.iter().any(|found| found == line), "{line}: {listed}");
    }
    let piped = project.command(TEXT, &["-q", "-o", "-"]).output().unwrap();
    assert!(piped.status.success());
    assert!(piped.stdout == fs::read(&file).unwrap(), "the same bytes");
    // Of the whole of an image: another program finds all of it.
    let to = format!("type=tar,dest={}", file.display());
    assert!(
        Done::of(&mut project.command("FROM base\n", &["-o", &to]))
            .status
            .success()
    );
    let mut list = Command::new("tar");
    let count = Done::of(list.arg("-tf").arg(&file)).stdout.lines().count();
    project.build("FROM base\n", &[]);
    let shown: usize = project.sh("find / -xdev | wc -l").trim().parse().unwrap();
    assert!(count > 3 && count <= shown + 1, "{count} of {shown}");
    project.is_clean();
}

#[test]
fn places_that_mean_nothing_are_refused() {
    let project = Project::new();
    for (to, why) in [
        ("type=local", "a directory is missing"),
        ("dest=x", "the type is missing"),
        ("type=tar,color=red", "color is not supported"),
        ("type=ocean,dest=x", "there is no type ocean"),
    ] {
        let done = Done::of(&mut project.command("FROM base\n", &["-o", to]));
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(done.stderr.contains(why), "{done}");
    }
    let full = Done::of(&mut project.command("FROM base\n", &["-o", "type=tar,dest=/dev/full"]));
    assert_eq!(full.status.code(), Some(1), "{full}");
    assert!(
        full.stderr.contains("cannot write /dev/full: No space left"),
        "{full}"
    );
    project.is_clean();
}

/// What skopeo says of an image's config, of which it checks the digest.
fn config(place: &str) -> Value {
    let done = skopeo(["inspect", "--tls-verify=false", "--config", "--raw", place]);
    assert!(done.status.success(), "{done}");
    serde_json::from_str(&done.stdout).unwrap()
}

fn metadata(file: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn an_image_becomes_an_archive() {
    let project = Project::new();
    let text = "FROM base\nRUN echo made > /made\nHEALTHCHECK CMD true\nSHELL [\"/bin/sh\", \"-ec\"]\nONBUILD RUN true\n";
    for (kind, transport) in [
        ("oci", "oci-archive"),
        ("docker", "docker-archive"),
        ("oci,tar=false", "oci"),
    ] {
        let file = project.bryo.scratch(&format!("{transport}.out"));
        let meta = project.bryo.scratch("meta");
        let to = format!("type={kind},dest={},name=x.example/other:1", file.display());
        let flags = ["-o", &to, "--metadata-file", meta.to_str().unwrap()];
        let done = Done::of(&mut project.command(text, &flags));
        assert!(done.status.success() && done.stdout.is_empty(), "{done}");
        assert!(!project.bryo.ok(["images"]).contains("made"), "no image is made");
        let place = format!("{transport}:{}", file.display());
        let found = config(&format!(
            "{place}:{}",
            if transport == "docker-archive" {
                "made:latest"
            } else {
                "latest"
            }
        ));
        assert_eq!(found["config"]["Healthcheck"]["Test"][1], "true", "{kind}");
        assert_eq!(found["config"]["Shell"][1], "-ec");
        assert_eq!(found["config"]["OnBuild"][0], "RUN true");

        let other = Bryo::new();
        assert_eq!(
            other.ok(["load", "-i", file.to_str().unwrap()]),
            "Loaded image: made:latest\nLoaded image: x.example/other:1\n"
        );
        assert_eq!(other.sh("made", "cat /made"), "made\n");
        let id = other.ok(["images", "-q", "--no-trunc", "made"]);
        let meta = metadata(&meta);
        assert_eq!(meta["containerimage.config.digest"], id.trim());
        assert_eq!(
            meta["image.name"],
            "docker.io/library/made:latest,x.example/other:1"
        );
        if transport != "docker-archive" {
            let raw = skopeo(["inspect", "--raw", &format!("{place}:1")]);
            let digest = Done::of(
                Command::new("sh")
                    .args(["-c", "printf %s \"$0\" | sha256sum"])
                    .arg(&raw.stdout),
            );
            let digest = format!("sha256:{}", digest.stdout.split(' ').next().unwrap());
            assert_eq!(meta["containerimage.digest"], digest);
            assert_eq!(meta["containerimage.descriptor"]["size"], raw.stdout.len());
        }
    }
    project.is_clean();
}

#[test]
fn an_archive_goes_through_a_pipe_but_to_no_terminal() {
    let project = Project::new();
    let text = "FROM base\nRUN echo made > /made\n";
    let iid = project.bryo.scratch("iid");
    let dockerfile = project.bryo.scratch("Dockerfile");
    let dockerfile = dockerfile.to_str().unwrap();
    for kind in ["oci", "docker"] {
        let to = format!("type={kind},dest=-");
        let piped = project
            .command(text, &["-q", "-o", &to, "--iidfile", iid.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(piped.status.success());
        let file = project.bryo.scratch("piped");
        fs::write(&file, piped.stdout).unwrap();
        let other = Bryo::new();
        assert_eq!(
            other.ok(["load", "-i", file.to_str().unwrap()]),
            "Loaded image: made:latest\n"
        );
        let id = other.ok(["images", "-q", "--no-trunc"]);
        assert_eq!(fs::read_to_string(&iid).unwrap(), id.trim());
        let context = project.path("");
        let words = ["build", "-o", &to, "-f", dockerfile, context.to_str().unwrap()];
        let done = Done::of(&mut on_terminal(&project.bryo.command(words)));
        assert!(
            !done.status.success() && done.stdout.contains("refusing to write an archive to a terminal"),
            "{done}"
        );
    }
    let full = Done::of(&mut project.command(text, &["-o", "type=oci,dest=/dev/full"]));
    assert!(
        full.stderr.contains("cannot write /dev/full: No space left"),
        "{full}"
    );
    project.is_clean();
}

#[test]
fn several_outputs_are_of_one_build() {
    let project = Project::new();
    let (oci, tar, dir) = (
        project.bryo.scratch("oci.tar"),
        project.bryo.scratch("tree.tar"),
        project.bryo.scratch("tree"),
    );
    let flags = [
        format!("--output=type=oci,dest={}", oci.display()),
        format!("--output=type=tar,dest={}", tar.display()),
        format!("--output={}", dir.display()),
        "--load".into(),
        "-q".into(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let done = Done::of(&mut project.command("FROM base\nRUN date +%N > /made\n", &flags));
    assert!(done.status.success(), "{done}");
    assert_eq!(done.stdout.trim(), project.image("made", "{{.Id}}"));
    let made = project.sh("cat /made");
    assert_eq!(fs::read_to_string(dir.join("made")).unwrap(), made);
    let of_tar = Done::of(Command::new("tar").arg("-xOf").arg(&tar).arg("made"));
    assert_eq!(of_tar.stdout, made);
    let other = Bryo::new();
    other.ok(["load", "-i", oci.to_str().unwrap()]);
    assert_eq!(other.sh("made", "cat /made"), made);
    // Nothing at all: what was built is in the cache.
    let done = Done::of(&mut project.command(
        "FROM base\nRUN date +%N > /cached\n",
        &["-o", "type=cacheonly", "-t", "none"],
    ));
    assert!(done.status.success(), "{done}");
    assert!(!project.bryo.ok(["images"]).contains("none"));
    assert_eq!(
        project.build("FROM base\nRUN date +%N > /cached\n", &[]).cached,
        ["RUN date +%N > /cached"]
    );
    project.is_clean();
}

#[test]
fn an_image_is_sent_when_it_is_built() {
    let project = Project::new();
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let text = "FROM base\nRUN date +%N > /made\n";
    let meta = project.bryo.scratch("meta");
    let name = |name: &str| registry.image(name);
    for (flags, sent) in [
        (vec!["--push".to_string()], None),
        (
            vec![format!("--output=type=registry,name={}", name("b:1"))],
            Some("b:1"),
        ),
        (
            vec![format!("-otype=image,push=true,name={}", name("c"))],
            Some("c:latest"),
        ),
    ] {
        let file = project.bryo.scratch("Dockerfile");
        fs::write(&file, text).unwrap();
        let mut command = project.bryo.command(["build", "--metadata-file"]);
        command.arg(&meta).arg("-f").arg(&file).args(&flags);
        if sent.is_none() {
            command.args(["-t", &name("a:1")]);
        }
        let done = Done::of(command.arg(project.path("")));
        assert!(done.status.success(), "{done}");
        let image = name(sent.unwrap_or("a:1"));
        let raw = skopeo([
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            &format!("docker://{image}"),
        ]);
        let meta = metadata(&meta);
        assert_eq!(meta["containerimage.digest"], raw.stdout.trim(), "{raw}");
        assert_eq!(meta["image.name"], *image);
        assert_eq!(
            meta["containerimage.config.digest"],
            project.image(&image, "{{.Id}}")
        );
        let other = Bryo::new();
        other.ok(["pull", "-q", &image]);
        assert_eq!(
            other.ok(["images", "-q", "--no-trunc"]).trim(),
            project.image(&image, "{{.Id}}")
        );
    }
    fs::write(project.path("Dockerfile"), text).unwrap();
    let nameless = Done::of(project.bryo.command(["build", "--push"]).arg(project.path("")));
    assert_eq!(nameless.status.code(), Some(125), "{nameless}");
    assert!(
        nameless.stderr.contains("tag is needed when pushing to registry"),
        "{nameless}"
    );
    // A registry that takes nothing: the image is there all the same.
    let readonly = Registry::shared().image("mine:1");
    let words = ["build", "--push", "-t", &readonly];
    let done = Done::of(project.bryo.command(words).arg(project.path("")));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stderr
            .lines()
            .last()
            .unwrap()
            .contains("registry 127.0.0.1:"),
        "{done}"
    );
    project.is_clean();
}

/// `compression`, `compression-level`: what a layout's layers are, and that they are the same files whatever form they have.
#[test]
fn layers_of_an_archive_have_the_form_that_is_asked_for() {
    let project = Project::new();
    let text = "FROM base\nRUN head -c 3000000 /dev/zero | tr '\\0' 'x' > /x; seq 300000 > /seq\n";
    let mut sizes = Vec::new();
    for (asked, form) in [
        ("", "tar+gzip"),
        (",compression=gzip,compression-level=1", "tar+gzip"),
        (",compression=gzip,compression-level=9", "tar+gzip"),
        (",compression=zstd", "tar+zstd"),
        (
            ",compression=zstd,compression-level=19,force-compression=true",
            "tar+zstd",
        ),
        (",compression=uncompressed", "tar"),
    ] {
        let to = project.bryo.scratch("form");
        let _ = fs::remove_dir_all(&to);
        let output = format!(
            "--output=type=oci,tar=false,name=f:1,dest={}{asked}",
            to.display()
        );
        let done = Done::of(&mut project.command(text, &[&output]));
        assert!(done.status.success(), "{done}");
        let layout = Layout(to.clone());
        let index = parsed(&fs::read(to.join("index.json")).unwrap());
        let manifest = layout.document(&index["manifests"][0]["digest"]);
        let layers = manifest["layers"].as_array().unwrap();
        for layer in layers {
            assert_eq!(
                layer["mediaType"],
                format!("application/vnd.oci.image.layer.v1.{form}"),
                "{asked}"
            );
        }
        let config = layout.document(&manifest["config"]["digest"]);
        if form == "tar" {
            let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
            assert_eq!(config["rootfs"]["diff_ids"], json!(digests));
        }
        sizes.push(layers.last().unwrap()["size"].as_u64().unwrap());
        // skopeo checks digests and diff ids on its way; then it is run from there.
        let copied = format!("oci:{}", project.bryo.scratch("copied").display());
        let from = format!("oci:{}:1", to.display());
        let done = skopeo(["copy", "-q", "--dest-decompress", &from, &copied]);
        assert!(done.status.success(), "{done}");
        let from = format!("--build-context=made=oci-layout://{}", to.display());
        project.build(
            "FROM made\nRUN [ $(wc -c < /x) = 3000000 ] && tail -1 /seq\n",
            &[&from],
        );
    }
    let [default, fast, small, zstd, smallest, plain] = sizes[..] else {
        panic!("{sizes:?}")
    };
    assert!(
        fast > default && default >= small && zstd > smallest && plain > 3 * fast,
        "{sizes:?}"
    );
}
