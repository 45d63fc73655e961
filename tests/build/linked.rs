//! `COPY --link` and `ADD --link`: a layer of its own, which a changed base does not make anew, and which looks at nothing
//! below it (Dockerfile reference, "COPY --link").

use std::fs;
use std::process::Command;

use crate::common::{Done, Project, mode};

/// What is below the copies is another with each value of BASE.
const TEXT: &str = "FROM base AS other\nRUN mkdir -p /o/d && echo other > /o/d/f\n\
    FROM base\nARG BASE\nRUN echo $BASE > /below\nCOPY --link file /new/dir/file\n\
    COPY --link --from=other --chown=5:6 /o /taken\nADD --link tree.tar /unpacked/\nRUN cat /below /new/dir/file > /after\n";

fn project() -> Project {
    let project = Project::new();
    project.write("file", "file\n");
    project.write("packed/x", "x\n");
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "-C"])
        .arg(project.path("packed"))
        .arg("-cf");
    let done = Done::of(tar.arg(project.path("tree.tar")).arg("x"));
    assert!(done.status.success(), "{done}");
    project
}

/// Builds on that base; gives the linked steps that were made, by their first words.
fn built(project: &Project, text: &str, base: &str) -> Vec<String> {
    let built = project.build(text, &["--build-arg", &format!("BASE={base}")]);
    let copies = built.run.iter().filter(|step| !step.starts_with("RUN"));
    copies.cloned().collect()
}

#[test]
fn a_changed_base_leaves_it_to_the_cache() {
    let project = project();
    assert_eq!(built(&project, TEXT, "1").len(), 3);
    for base in ["2", "3", "1"] {
        assert_eq!(built(&project, TEXT, base), [""; 0], "{base}");
        let seen = format!("{base}\nfile\n{base}\nother\nx\n");
        assert_eq!(project.sh("cat /after /below /taken/d/f /unpacked/x"), seen);
        assert_eq!([project.owner("taken"), project.owner("taken/d/f")], ["5/6"; 2]);
    }
    // The twin: the same copies with no link.
    let bound = TEXT.replace("--link ", "");
    assert_eq!(built(&project, &bound, "1").len(), 3);
    assert_eq!(built(&project, &bound, "2").len(), 3);
    // And of what is linked, all that it depends on.
    for (old, new) in [
        ("file /new/dir/file", "file /new/dir/other"),
        ("COPY --link file", "COPY --link --chmod=600 file"),
        ("COPY --link file", "COPY --link --chown=7 file"),
        ("--chown=5:6", "--chown=5:7"),
        ("echo other", "echo another"),
        ("tree.tar /unpacked/", "--unpack=false tree.tar /unpacked/"),
        (
            "ADD --link tree.tar /unpacked/",
            "ADD --link tree.tar /elsewhere/",
        ),
    ] {
        let text = TEXT.replacen(old, new, 1);
        let text = text.replace(" /new/dir/file > /after", " > /after");
        assert_ne!(text, TEXT);
        assert_eq!(built(&project, &text, "1").len(), 1, "{new}");
    }
    project.write("file", "changed\n");
    assert_eq!(built(&project, TEXT, "2").len(), 1);
    mode(&project.path("file"), 0o600);
    assert_eq!(built(&project, TEXT, "3").len(), 1);
    assert_eq!(
        project.sh("stat -c %a /new/dir/file; cat /after"),
        "600\n3\nchanged\n"
    );
    project.is_clean();
}

#[test]
fn it_looks_at_nothing_below_it() {
    let project = project();
    let text = "FROM base\nRUN mkdir -m 1777 /open /real; ln -s real /link; mkdir /there; echo kept | tee /open/kept > /there/kept; \
        chown 5:6 /open; echo file > /was\n\
        COPY --link file /open/file\nCOPY --link file /link/file\nCOPY --link file /there\nCOPY --link file /was/file\n\
        WORKDIR /open\nCOPY --link file sub/\n";
    project.build(text, &[]);
    // Directories are those of a copy to nothing: root's, 0755. What they had stays.
    assert_eq!(
        project.sh("stat -c '%n %F %a' /open /link /there /was /open/sub; cat /open/kept /open/file /link/file /was/file; ls /real"),
        "/open directory 755\n/link directory 755\n/there regular file 644\n/was directory 755\n\
         /open/sub directory 755\nkept\nfile\nfile\nfile\n"
    );
    assert_eq!(project.owner("open"), "0/0");
    // Without: into what is there, through links.
    project.build(
        &text.replace("--link ", "").replace("COPY file /was/file\n", ""),
        &[],
    );
    assert_eq!(
        project.sh("stat -c '%n %F %a' /open /link /there; cat /real/file /there/file"),
        "/open directory 1777\n/link symbolic link 777\n/there directory 755\nfile\nfile\n"
    );
    assert_eq!(project.owner("open"), "5/6");
    // The top is nobody's to change.
    project.build("FROM base\nRUN chmod 700 /\nCOPY --link . /\n", &[]);
    assert_eq!(project.sh("stat -c %a /; cat /file"), "700\nfile\n");
}

#[test]
fn its_layer_is_one_in_all_images_and_is_made_again_when_it_is_lost() {
    let project = project();
    let text = "FROM base\nARG BASE\nRUN echo $BASE > /below\nCOPY --link file /linked\n";
    let top = |base: &str| {
        project.build(text, &["--build-arg", &format!("BASE={base}")]);
        let layers: Vec<String> =
            serde_json::from_str(&project.image("made", "{{json .RootFS.Layers}}")).unwrap();
        layers.last().unwrap().trim_start_matches("sha256:").to_string()
    };
    let layer = top("1");
    assert_eq!(top("2"), layer);
    // What keeps it now is the second image's stack.
    project.bryo.ok(["image", "prune", "-f"]);
    assert_eq!(top("3"), layer);
    fs::remove_file(project.bryo.root().join("layers").join(format!("{layer}.tar"))).unwrap();
    assert_eq!(built(&project, text, "4"), ["COPY --link file /linked"]);
    assert_eq!(project.sh("cat /below /linked"), "4\nfile\n");
    assert_eq!(built(&project, text, "5"), [""; 0]);
}

#[test]
fn it_travels_to_other_stores_and_other_bases() {
    let project = project();
    let cache = project.bryo.scratch("cache");
    let text = "FROM base\nARG BASE\nRUN echo $BASE > /below\nCOPY --link file /linked\nCOPY file /bound\n";
    let to = format!("type=local,dest={},mode=max", cache.display());
    project.build(text, &["--build-arg", "BASE=1", "--cache-to", &to]);
    let other = self::project();
    let from = format!("type=local,src={}", cache.display());
    let built = other.build(text, &["--build-arg", "BASE=2", "--cache-from", &from]);
    assert_eq!(built.cached, ["COPY --link file /linked"], "{}", built.said);
    assert_eq!(other.sh("cat /below /linked /bound"), "2\nfile\nfile\n");
}

/// Two stages on different bases want the same linked copy at once, under --no-cache too: each gets it.
#[test]
fn stages_beside_each_other_share_it() {
    let project = project();
    let text = "FROM base AS one\nRUN echo 1 > /below\nCOPY --link file /linked\n\
        FROM base AS two\nRUN echo 2 > /below\nCOPY --link file /linked\n\
        FROM base\nCOPY --from=one / /one/\nCOPY --from=two / /two/\n";
    for flags in [
        &["--jobs=2"][..],
        &["--jobs=2", "--no-cache"],
        &["--jobs=1", "--no-cache"],
    ] {
        project.build(text, flags);
        let look = "cat /one/below /one/linked /two/below /two/linked";
        assert_eq!(project.sh(look), "1\nfile\n2\nfile\n", "{flags:?}");
    }
    assert_eq!(project.build(text, &[]).run, [""; 0]);
}
