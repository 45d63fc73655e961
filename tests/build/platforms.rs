//! `build --platform`: is each image for what was asked for, and are several of them one name's?

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{Done, Mode, Project, Registry, fed, skopeo};

/// As Go programs are built for other processors: by this one's compiler.
const CROSS: &str = "FROM --platform=$BUILDPLATFORM base AS build\n\
    ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM\n\
    RUN echo $TARGETPLATFORM $TARGETOS $TARGETARCH $TARGETVARIANT $BUILDPLATFORM > /out\n\
    FROM scratch\n\
    COPY --from=build /out /out\n";

const BOTH: &str = "--platform=linux/arm64,linux/arm/v7";

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// `os/architecture[/variant]` of a list's entries.
fn platforms(list: &Value) -> Vec<String> {
    let entries = list["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let part = |name: &str| entry["platform"][name].as_str();
            let parts = [part("os"), part("architecture"), part("variant")];
            parts.into_iter().flatten().collect::<Vec<_>>().join("/")
        })
        .collect()
}

#[test]
fn one_image_is_for_what_was_asked() {
    let project = Project::new();
    let told = |platform: &str| {
        let to = project.bryo.scratch("out");
        let _ = fs::remove_dir_all(&to);
        let output = format!("--output={}", to.display());
        let done = Done::of(&mut project.command(CROSS, &["--platform", platform, &output]));
        assert!(done.status.success(), "{done}");
        fs::read_to_string(to.join("out")).unwrap()
    };
    let host = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => panic!("{other}"),
    };
    assert_eq!(told("linux/s390x"), format!("linux/s390x linux s390x {host}\n"));
    assert_eq!(
        told("linux/arm/v7"),
        format!("linux/arm/v7 linux arm v7 {host}\n")
    );
    project.build(CROSS, &["--platform", "linux/s390x"]);
    assert_eq!(project.image("made", "{{.Os}}/{{.Architecture}}"), "linux/s390x");
    let again = project.build(CROSS, &["--platform", "linux/s390x"]);
    assert_eq!(again.run, Vec::<String>::new());
}

#[test]
fn programs_for_another_processor_are_not_run_by_chance() {
    let project = Project::new();
    project.build(
        "FROM scratch\nCOPY . /\n",
        &["--platform=linux/vax", "-t", "foreign"],
    );
    // What needs no program is done.
    project.build(
        "FROM foreign\nWORKDIR /a/b\nCOPY . .\n",
        &["--platform=linux/vax", "--pull=never"],
    );
    let said = project.fails(
        "FROM foreign\nRUN [\"/true\"]\n",
        &["--platform=linux/vax", "--pull=never"],
    );
    assert!(
        said.contains("cannot run programs for linux/vax on this machine"),
        "{said}"
    );
    assert!(said.contains("binfmt_misc"), "{said}");
    // One that was made for another platform is no base where one was asked for.
    let said = project.fails("FROM base\n", &["--platform=linux/vax", "--pull=never"]);
    assert!(
        said.contains("image base is here, but not for linux/vax"),
        "{said}"
    );
    let said = project.fails("FROM --platform=a/b/c/d base\n", &[]);
    assert!(said.contains("invalid platform \"a/b/c/d\""), "{said}");
}

#[test]
fn several_are_one_name_in_a_registry() {
    let project = Project::new();
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let name = format!("{}/cross:1", registry.address());
    let (ids, metadata) = (project.bryo.scratch("id"), project.bryo.scratch("metadata"));
    let host = format!("{BOTH},linux/amd64");
    let mut command = project.bryo.command(["build", &host, "--push", "-t", &name]);
    command.args(["--annotation", "index:a=b", "--annotation", "c=d"]);
    command
        .arg("--iidfile")
        .arg(&ids)
        .arg("--metadata-file")
        .arg(&metadata);
    let done = fed(command.args(["-f", "-"]).arg(project.path("")), CROSS);
    assert!(done.status.success(), "{done}");
    for title in [
        "[linux/arm64 build 2/2] RUN",
        "[linux/arm/v7 build 2/2] RUN",
        "[linux/arm/v7 stage-1 2/2] COPY",
    ] {
        assert!(done.stderr.contains(title), "{title}: {done}");
    }
    let raw = skopeo([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{name}"),
    ])
    .stdout;
    let list = json(raw.as_bytes());
    assert_eq!(platforms(&list), ["linux/arm64", "linux/arm/v7", "linux/amd64"]);
    assert_eq!(list["annotations"]["a"], "b");
    let digest = fs::read_to_string(&ids).unwrap();
    let said = json(&fs::read(&metadata).unwrap());
    assert_eq!(said["containerimage.digest"], digest);
    assert_eq!(
        said["containerimage.descriptor"]["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(said.get("containerimage.config.digest"), None);
    let copied = project.bryo.scratch("copied");
    // Whole: another tool finds all that it names.
    let to = format!("oci:{}", copied.display());
    let done = skopeo([
        "copy",
        "--all",
        "--src-tls-verify=false",
        &format!("docker://{name}"),
        &to,
    ]);
    assert!(done.status.success(), "{done}");
    // Nothing of it is on the store's list.
    assert!(
        !project
            .bryo
            .ok(["images", "--format", "{{.Repository}}"])
            .contains("cross")
    );

    // As a base it is taken for the platform that is asked for; its name means what this machine can run.
    project.bryo.ok(["pull", "-q", &name]);
    let on = format!("FROM {name}\nCOPY . /more/\n");
    project.build(&on, &["--platform=linux/arm64"]);
    assert_eq!(project.image("made", "{{.Architecture}}"), "arm64");
    assert_eq!(project.image(&name, "{{.Architecture}}"), "amd64");
    project.build(&on, &[]);
    assert_eq!(project.image("made", "{{.Architecture}}"), "amd64");
    project.bryo.ok(["image", "prune", "-f"]);
    project.is_clean();
}

#[test]
fn several_go_into_archives_and_directories() {
    let project = Project::new();
    let (tar, layout, tree) = (
        project.bryo.scratch("oci.tar"),
        project.bryo.scratch("layout"),
        project.bryo.scratch("tree"),
    );
    let outputs = [
        format!("--output=type=oci,dest={}", tar.display()),
        format!("--output=type=oci,tar=false,dest={}", layout.display()),
        format!("--output=type=local,dest={}", tree.display()),
    ];
    let mut command = project.command(CROSS, &[BOTH]);
    let done = Done::of(command.args(&outputs));
    assert!(done.status.success(), "{done}");
    for (directory, text) in [("linux_arm64", "linux/arm64 "), ("linux_arm_v7", "linux/arm/v7 ")] {
        let told = fs::read_to_string(tree.join(directory).join("out")).unwrap();
        assert!(told.starts_with(text), "{told}");
    }
    for place in [
        format!("oci-archive:{}", tar.display()),
        format!("oci:{}", layout.display()),
    ] {
        let raw = skopeo(["inspect", "--raw", &place]);
        assert_eq!(
            platforms(&json(raw.stdout.as_bytes())),
            ["linux/arm64", "linux/arm/v7"],
            "{raw}"
        );
        let to = format!("dir:{}", project.bryo.scratch("dir").display());
        let done = skopeo(["copy", "--all", &place, &to]);
        assert!(done.status.success(), "{done}");
    }
    // One's own `load` takes what is for this machine, so there is nothing.
    let said = project.bryo.fails(1, ["load", "-i", tar.to_str().unwrap()]);
    assert!(said.contains("no matching manifest for linux/"), "{said}");
    for (flags, why) in [
        (&[][..], "a store's image is for one platform"),
        (&["--output=type=docker,dest=x.tar"], "Docker's format"),
        (&["--output=type=tar,dest=x.tar"], "a tar has one tree"),
    ] {
        let said = project.fails(CROSS, &[&[BOTH], flags].concat());
        assert!(said.contains(why), "{said}");
    }
}

/// BuildKit's BUILDKIT_MULTI_PLATFORM.
#[test]
fn what_is_for_one_platform_is_as_for_several_if_asked() {
    let project = Project::new();
    let (layout, tree) = (project.bryo.scratch("layout"), project.bryo.scratch("tree"));
    let outputs = [
        format!("--output=type=oci,tar=false,dest={}", layout.display()),
        format!("--output=type=local,dest={}", tree.display()),
    ];
    let text = "FROM scratch\nCOPY file /\n";
    project.write("file", "x");
    let build = |value: &str| {
        for place in [&layout, &tree] {
            let _ = fs::remove_dir_all(place);
        }
        let flag = format!("--build-arg=BUILDKIT_MULTI_PLATFORM={value}");
        let mut command = project.command(text, &["--platform=linux/arm64", &flag]);
        let done = Done::of(command.args(&outputs));
        assert!(
            done.status.success() && !done.stderr.contains("not consumed"),
            "{done}"
        );
        let raw = skopeo(["inspect", "--raw", &format!("oci:{}", layout.display())]);
        assert!(raw.status.success(), "{raw}");
        json(raw.stdout.as_bytes())
    };
    let list = build("1");
    assert_eq!(platforms(&list), ["linux/arm64"]);
    assert!(tree.join("linux_arm64/file").is_file());
    let manifest = build("false");
    assert!(
        manifest["config"].is_object() && tree.join("file").is_file(),
        "{manifest}"
    );
    // The store's image is no list.
    project.build(text, &["--build-arg=BUILDKIT_MULTI_PLATFORM=1"]);
    assert!(project.image("made", "{{.Id}}").starts_with("sha256:"));
    for (flags, why) in [
        (
            &["--build-arg=BUILDKIT_MULTI_PLATFORM=maybe"][..],
            "invalid boolean value for multi-platform: maybe",
        ),
        (
            &[
                "--build-arg=BUILDKIT_MULTI_PLATFORM=1",
                "--output=type=tar,dest=x.tar",
            ],
            "a tar has one tree",
        ),
        (
            &[
                BOTH,
                "--build-arg=BUILDKIT_MULTI_PLATFORM=0",
                "--output=type=oci,dest=x.tar",
            ],
            "conflicting config: returning multiple target platforms is not allowed",
        ),
    ] {
        let said = project.fails(text, flags);
        assert!(said.contains(why), "{said}");
    }
}

/// The config of each image that a layout's list names.
fn configs(layout: &Path) -> Vec<Value> {
    let blob = |digest: &Value| {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
        json(&fs::read(layout.join("blobs/sha256").join(hex)).unwrap())
    };
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    let list = blob(&index["manifests"][0]["digest"]);
    let entries = list["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| blob(&blob(&entry["digest"])["config"]["digest"]))
        .collect()
}

/// BuildKit's `finalizeResultImage`. Else an entry of a list says arm64, and the image's own config amd64.
#[test]
fn an_image_is_for_what_was_asked_whatever_it_stands_on() {
    let project = Project::new();
    let text = "FROM --platform=$BUILDPLATFORM base\nRUN echo any > /any\n";
    let layout = project.bryo.scratch("layout");
    let output = format!("--output=type=oci,tar=false,dest={}", layout.display());
    let done = Done::of(&mut project.command(text, &[BOTH, &output]));
    assert!(done.status.success(), "{done}");
    let parts = |config: &Value| ["os", "architecture", "variant"].map(|part| config[part].clone());
    let told: Vec<_> = configs(&layout).iter().map(parts).collect();
    assert_eq!(
        told,
        [
            ["linux".into(), "arm64".into(), Value::Null],
            ["linux".into(), "arm".into(), "v7".into()]
        ]
    );
    project.build(text, &["--platform=linux/arm/v7", "-t", "other"]);
    assert_eq!(project.image("made", "{{.Os}}/{{.Architecture}}"), "linux/arm");
    // Of the base's variant nothing is left.
    let on = "FROM --platform=linux/arm/v7 other\nLABEL a=b\n";
    let id = project.build(on, &["--platform=linux/arm64", "--pull=never"]).id;
    let blobs = project.bryo.root().join("blobs/sha256");
    let config = json(&fs::read(blobs.join(id.trim_start_matches("sha256:"))).unwrap());
    assert_eq!(parts(&config), ["linux".into(), "arm64".into(), Value::Null]);
    project.build(text, &[]);
    assert_eq!(
        project.image("made", "{{.Architecture}}"),
        project.image("base", "{{.Architecture}}")
    );
}

/// What is given counts first, then the default of the line, then the global ARG, then the platform.
#[test]
fn an_argument_of_the_platform_may_have_a_default() {
    let project = Project::new();
    let text = "ARG TARGETOS=global\nFROM base\nARG TARGETARCH=own TARGETOS TARGETVARIANT=own BUILDOS\n\
        RUN echo $TARGETARCH $TARGETOS $TARGETVARIANT $BUILDOS > /x\n";
    project.build(text, &[]);
    assert_eq!(project.sh("cat /x"), "own global own linux\n");
    let given = ["TARGETARCH=1", "TARGETOS=2", "BUILDOS=3"].map(|arg| ["--build-arg", arg]);
    project.build(text, given.as_flattened());
    assert_eq!(project.sh("cat /x"), "1 2 own 3\n");
    project.build(
        "FROM base AS for-mine\nRUN echo yes > /x\nFROM for-$TARGETARCH\n",
        &["--build-arg=TARGETARCH=mine"],
    );
    assert_eq!(project.sh("cat /x"), "yes\n");
}
