//! `--squash` and `--squash-all`: fewer layers, and the same tree.

use std::fs;

use serde_json::Value;

use crate::common::{Chance, Done, Project};

/// What is done to an image's tree: everything that a layer can say of a file that another layer has.
const CHANGES: &str = "FROM base AS first\n\
    RUN mkdir -p /d/deep /gone/deep /turned && echo 1 > /d/file && echo 2 > /gone/deep/file && ln /d/file /d/hard && \
    echo t > /turned/file && dd if=/dev/zero of=/d/sparse bs=1 count=1 seek=100000 2>/dev/null && mkfifo /d/fifo\n\
    RUN echo more >> /d/file && rm -r /gone && chmod 700 /d/deep && rm -r /turned && echo now > /turned\n\
    FROM first\n\
    RUN rm /bin/vi 2>/dev/null; ln -s /d/file /d/link && mv /d/deep /d/moved && mkdir /gone && touch -d 2001-01-01 /d/moved\n\
    RUN mkdir /tmp/x && rmdir /tmp/x && rm -rf /bin/ls /etc/passwd && mkdir /etc/passwd && echo new > /etc/passwd/new && ln /bin/busybox /d/busybox\n";

/// The whole tree as a tar.
fn tree(project: &Project, text: &str, flags: &[&str]) -> Vec<u8> {
    let file = project.bryo.scratch("tree.tar");
    let to = format!("type=tar,dest={}", file.display());
    let flags = [&["-o", &to][..], flags].concat();
    let done = Done::of(&mut project.command(text, &flags));
    assert!(done.status.success(), "{done}");
    fs::read(file).unwrap()
}

fn layers(project: &Project) -> Vec<String> {
    serde_json::from_str(&project.image("made", "{{json .RootFS.Layers}}")).unwrap()
}

#[test]
fn new_layers_become_one_with_the_same_tree() {
    let project = Project::new();
    let base: Vec<String> = serde_json::from_str(&project.image("base", "{{json .RootFS.Layers}}")).unwrap();
    let whole = tree(&project, CHANGES, &[]);
    project.build(CHANGES, &[]);
    assert_eq!(layers(&project).len(), base.len() + 4);
    let squashed = project.build(CHANGES, &["--squash"]);
    assert_eq!(squashed.run.len(), 0, "{}", squashed.said);
    let made = layers(&project);
    assert_eq!(made.len(), base.len() + 1);
    assert!(made.starts_with(&base));
    assert!(tree(&project, "FROM made\n", &[]) == whole, "another tree");
    assert!(tree(&project, CHANGES, &["--squash"]) == whole, "another tree");
    // The history tells as many layers as there are.
    let history = project
        .bryo
        .ok(["history", "--format", "{{.CreatedBy}}|{{.Comment}}", "made"]);
    assert!(
        history.contains("RUN /bin/sh -c echo more >> /d/file") && history.contains("|squash"),
        "{history}"
    );
    let image = format!("docker-archive:{}", project.bryo.scratch("archive").display());
    project
        .bryo
        .ok(["save", "-o", image.split_once(':').unwrap().1, "made"]);
    let config = crate::common::skopeo(["inspect", "--config", "--raw", &image]);
    let config: Value = serde_json::from_str(&config.stdout).unwrap();
    let is_layer = |entry: &&Value| entry["empty_layer"] != true;
    assert_eq!(
        config["history"]
            .as_array()
            .unwrap()
            .iter()
            .filter(is_layer)
            .count(),
        made.len()
    );
    // Once more it is the same image; and also without the cache.
    assert_eq!(project.build(CHANGES, &["--squash"]).id, squashed.id);
    assert_eq!(
        project.sh("cat /d/file /d/hard /turned /etc/passwd/new; test ! -e /gone/deep"),
        "1\nmore\n1\nmore\nnow\nnew\n"
    );

    project.build(CHANGES, &["--squash-all"]);
    assert_eq!(layers(&project).len(), 1);
    assert!(tree(&project, "FROM made\n", &[]) == whole, "another tree");
    // What makes no layers stays as it is.
    project.build("FROM base\nENV A=b\n", &["--squash"]);
    assert_eq!(layers(&project), base);
    let nothing = project.build("FROM base\nRUN echo x > /x\n", &["--layers=false"]);
    assert_eq!(
        project
            .build("FROM base\nRUN echo x > /x\n", &["--layers=false"])
            .run,
        nothing.run
    );
    assert_eq!(layers(&project).len(), base.len() + 1);
    project.is_clean();
}

/// An image of five layers with all that a layer can hold: attributes, links between layers, whiteouts.
#[test]
fn an_image_of_everything_becomes_one_layer() {
    let project = Project::of("odd");
    let text = "FROM base\nRUN rm -rf /odd/kinds/big && chmod 711 /odd\n";
    let whole = tree(&project, text, &[]);
    project.build(text, &["--squash"]);
    assert!(tree(&project, "FROM made\n", &[]) == whole, "another tree");
    // Its devices cannot be made again: nobody but root may.
    let said = project.fails(text, &["--squash-all"]);
    assert!(
        said.contains("is a device node, which cannot be copied without root"),
        "{said}"
    );
    let text = format!("{text}RUN find / -xdev -type c -o -xdev -type b | xargs rm\n");
    let whole = tree(&project, &text, &[]);
    project.build(&text, &["--squash-all"]);
    assert_eq!(layers(&project).len(), 1);
    assert!(tree(&project, "FROM made\n", &[]) == whole, "another tree");
    project.is_clean();
}

/// As deep as a path can name, made and removed again.
#[test]
fn deep_directories_are_no_matter() {
    let project = Project::new();
    let deep =
        "FROM base\nRUN i=0; while [ $i -lt 1500 ]; do mkdir d && cd d && i=$((i+1)); done; echo x > file\n";
    project.build(deep, &["--squash", "-t", "deep"]);
    let find = "find /d -name file | wc -c";
    assert_eq!(project.sh(find), "3006\n");
    project.build("FROM deep\nRUN rm -r /d\nRUN echo > /top\n", &["--squash"]);
    assert_eq!(project.sh("ls -d /d /top 2>/dev/null || true"), "/top\n");
    project.build(&format!("{deep}RUN rm -r /d && echo > /top\n"), &["--squash-all"]);
    assert_eq!(project.sh("ls -d /d /top 2>/dev/null || true"), "/top\n");
    project.is_clean();
}

/// Random changes of a few names that collide, over a base that random changes made.
#[test]
fn random_layers_become_one_with_the_same_tree() {
    let project = Project::new();
    let mut chance = Chance(1);
    let mut next = |below: usize| chance.below(below);
    let mut steps = |count: usize| {
        let mut text = String::new();
        for _ in 0..count {
            let mut script = String::from("mkdir -p /r && cd /r");
            for _ in 0..12 {
                let mut name = || format!("{}/{}", ["a", "b", "c"][next(3)], ["a", "b", ".", "c/a"][next(4)]);
                let (one, two) = (name(), name());
                let change = match next(9) {
                    0 => format!("mkdir -p {one}"),
                    1 => format!("echo {two} > {one}"),
                    2 => format!("echo {two} >> {one}"),
                    3 => format!("ln {one} {two}"),
                    4 => format!("ln -s {one} {two}"),
                    5 => format!("mv {one} {two}"),
                    6 => format!("rm -rf {one}"),
                    7 => format!("chmod 7{}5 {one}", next(8)),
                    _ => format!("cp -r {one} {two}"),
                };
                script += &format!("; {change} 2>/dev/null");
            }
            text += &format!("RUN {script}; true\n");
        }
        text
    };
    for round in 0..8 {
        project.build(&format!("FROM base\n{}", steps(2)), &["-t", "parent"]);
        let text = format!("FROM parent\n{}", steps(3));
        let whole = tree(&project, &text, &[]);
        project.build(&text, &["--squash"]);
        assert!(
            tree(&project, "FROM made\n", &[]) == whole,
            "round {round}: {text}"
        );
        let listed = Done::of(
            std::process::Command::new("tar")
                .arg("-tf")
                .arg(project.bryo.scratch("tree.tar")),
        );
        assert!(listed.stdout.contains("r/"), "{listed}");
    }
    project.is_clean();
}
