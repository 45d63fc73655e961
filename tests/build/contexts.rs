//! OCI layouts as named contexts: which image of one is used, by which instructions, and what is left of it here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Done, Project, fed};
use crate::layout::parsed;

/// Puts an image into a layout under a tag, as this or another program's build does. Gives its manifest's digest.
fn put(project: &Project, layout: &Path, tag: &str, text: &str) -> String {
    let output = format!("type=oci,tar=false,name=base:{tag},dest={}", layout.display());
    let mut command = project.bryo.command(["build", "--output", &output, "-"]);
    let done = fed(&mut command, &format!("FROM base\n{text}\n"));
    assert!(done.status.success(), "{done}");
    let index = parsed(&fs::read(layout.join("index.json")).unwrap());
    let manifests = index["manifests"].as_array().unwrap();
    let mut tagged = manifests.iter();
    let found = tagged.find(|one| one["annotations"]["org.opencontainers.image.ref.name"] == tag);
    found.expect("the tag")["digest"].as_str().unwrap().into()
}

fn flag(layout: &Path, behind: &str) -> String {
    format!("--build-context=named=oci-layout://{}{behind}", layout.display())
}

/// Fails before anything is built. Gives what was said.
#[track_caller]
fn refused(project: &Project, flag: &str) -> String {
    let done = Done::of(&mut project.command("FROM base\nRUN echo built\n", &[flag]));
    assert_eq!(done.status.code(), Some(125), "{done}");
    done.stderr
}

const USES: &str = "FROM named\nRUN cp /is /below\nFROM base\nCOPY --from=0 /below /\nCOPY --from=named /is /copied\n\
    RUN --mount=from=named,target=/m cat /m/is > /mounted\n";
const TOLD: &str = "cat /below /copied /mounted";

fn layout(project: &Project) -> PathBuf {
    project.bryo.scratch("layout")
}

#[test]
fn an_image_of_a_layout_is_what_a_name_means() {
    let project = Project::new();
    let layout = layout(&project);
    let one = put(&project, &layout, "one", "RUN echo 1 > /is");
    put(&project, &layout, "two", "RUN echo 2 > /is");
    let listed = project.bryo.ok(["images"]);
    for (behind, is) in [
        (":one", "1"),
        (":two", "2"),
        (&format!("@{one}"), "1"),
        (":one", "1"),
    ] {
        for more in [&[][..], &["--pull=never"]] {
            project.build(USES, &[&[flag(&layout, behind).as_str()], more].concat());
            assert_eq!(
                project.sh(TOLD),
                format!("{is}\n{is}\n{is}\n"),
                "{behind} {more:?}"
            );
        }
    }
    let again = project.build(USES, &[&flag(&layout, ":one")]);
    assert_eq!(again.run, [""; 0], "{}", again.said);
    project.build("FROM named\n", &[&flag(&layout, ":two"), "--pull"]);
    assert_eq!(project.sh("cat /is"), "2\n");
    // Another image under the tag is another base.
    put(&project, &layout, "one", "RUN echo 3 > /is");
    project.build(USES, &[&flag(&layout, ":one")]);
    assert_eq!(project.sh(TOLD), "3\n3\n3\n");
    // What its images are called there means nothing here.
    let now = project.bryo.ok(["images"]);
    let named = |said: &str| -> Vec<String> {
        let lines = said
            .lines()
            .filter(|line| !line.starts_with("<none>") && !line.starts_with("made "));
        lines
            .map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(named(&now), named(&listed));
    project.is_clean();
}

#[test]
fn without_a_tag_it_is_the_latest_or_the_only_one() {
    let project = Project::new();
    let layout = layout(&project);
    let text = "FROM named\n";
    put(&project, &layout, "one", "RUN echo 1 > /is");
    project.build(text, &[&flag(&layout, "")]);
    assert_eq!(project.sh("cat /is"), "1\n");
    put(&project, &layout, "two", "RUN echo 2 > /is");
    let said = refused(&project, &flag(&layout, ""));
    assert!(
        said.contains("several images: add :NAME") && said.contains("base:two"),
        "{said}"
    );
    put(&project, &layout, "latest", "RUN echo 3 > /is");
    project.build(text, &[&flag(&layout, "")]);
    assert_eq!(project.sh("cat /is"), "3\n");
}

#[test]
fn what_a_layout_does_not_have_is_said_before_anything_is_built() {
    let project = Project::new();
    let layout = layout(&project);
    let one = put(&project, &layout, "one", "RUN echo 1 > /is");
    let other = format!("@sha256:{}", "0".repeat(64));
    for (place, why) in [
        (flag(&layout.join("nowhere"), ""), "No such file or directory"),
        (flag(&layout.join("blobs"), ""), "index.json"),
        (flag(&layout, ":none"), "no image \"none\" in it"),
        (flag(&layout, "@sha256:123"), "is no digest"),
        (flag(&layout, &other), "No such file or directory"),
    ] {
        let said = refused(&project, &place);
        assert!(said.contains(why) && !said.contains("RUN"), "{place}: {said}");
    }
    // A blob that is another than its name says.
    let hex = one.strip_prefix("sha256:").unwrap();
    let manifest = layout.join("blobs/sha256").join(hex);
    let bytes = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, bytes.replacen("schemaVersion", "schemaversion", 1)).unwrap();
    let said = refused(&project, &flag(&layout, ":one"));
    assert!(said.contains("has another content"), "{said}");
}
