//! Random sequences of steps: is the image's tree the one that the last step saw; does a build from the cache give the same
//! image as a clean one; and does a changed step leave those before it to the cache?

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use crate::common::{Done, Project};

/// What is done within a RUN. It may fail: the reference is what the command saw, not what we would expect.
#[derive(Debug, Clone)]
enum Deed {
    Write(&'static str, u8),
    Append(&'static str, u8),
    Directory(&'static str),
    Remove(&'static str),
    Move(&'static str, &'static str),
    Copy(&'static str, &'static str),
    HardLink(&'static str, &'static str),
    Symlink(&'static str, &'static str),
    Mode(&'static str, u32),
    Time(&'static str, u32),
    Hole(&'static str, u16),
    Fifo(&'static str),
    /// Makes a directory anew: what the layers below have in it is gone.
    Replace(&'static str),
}

/// An instruction.
#[derive(Debug, Clone)]
enum Step {
    Run(Vec<Deed>),
    /// From the context, to this place, with these flags.
    Bring(&'static str, &'static str, &'static str),
    /// From the stage before, with these flags.
    Take(&'static str, &'static str, &'static str),
    /// A local archive, unpacked.
    Unpack(&'static str),
    /// A file of this name with the value of the variables in sight.
    Tell(&'static str),
    Workdir(&'static str),
    Environment(u8),
    Argument(u8),
    User(&'static str),
}

const PLACES: [&str; 10] = ["a", "b", "a/c", "a/c/d", "b/e", "f", "a/f", "b/f", "g", "a/c/g"];

fn place() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&PLACES[..])
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(to, byte)| Deed::Write(to, byte)),
        2 => (place(), any::<u8>()).prop_map(|(to, byte)| Deed::Append(to, byte)),
        4 => place().prop_map(Deed::Directory),
        3 => place().prop_map(Deed::Remove),
        3 => (place(), place()).prop_map(|(from, to)| Deed::Move(from, to)),
        2 => (place(), place()).prop_map(|(from, to)| Deed::Copy(from, to)),
        2 => (place(), place()).prop_map(|(from, to)| Deed::HardLink(from, to)),
        1 => (place(), place()).prop_map(|(from, to)| Deed::Symlink(from, to)),
        2 => (place(), prop::sample::select(vec![0o600, 0o755, 0o4711, 0o2750, 0o1777])).prop_map(|(to, mode)| Deed::Mode(to, mode)),
        1 => (place(), 1..2_000_000_000_u32).prop_map(|(to, time)| Deed::Time(to, time)),
        1 => (place(), any::<u16>()).prop_map(|(to, size)| Deed::Hole(to, size)),
        1 => place().prop_map(Deed::Fifo),
        2 => place().prop_map(Deed::Replace),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let source = prop::sample::select(vec!["one", "two", "tree", "tree/deep", "."]);
    let target = prop::sample::select(vec!["/w/a/", "/w/b/", "/w/new/", "./"]);
    let flags = prop::sample::select(vec![
        "",
        "--chmod=640 ",
        "--link ",
        "--chown=0:0 ",
        "--exclude=y ",
        "--parents ",
    ]);
    let taken = prop::sample::select(vec!["/s/", "/s/tree", "/s/linked", "/s/file"]);
    let taken_flags = prop::sample::select(vec!["", "--link ", "--chmod=751 "]);
    prop_oneof![
        6 => prop::collection::vec(deed(), 1..6).prop_map(Step::Run),
        3 => (source, target.clone(), flags).prop_map(|(from, to, flags)| Step::Bring(from, to, flags)),
        2 => (taken, target.clone(), taken_flags).prop_map(|(from, to, flags)| Step::Take(from, to, flags)),
        1 => target.prop_map(Step::Unpack),
        1 => place().prop_map(Step::Tell),
        1 => prop::sample::select(vec!["/w", "/w/a", "/w/deep/er"]).prop_map(Step::Workdir),
        1 => any::<u8>().prop_map(Step::Environment),
        1 => any::<u8>().prop_map(Step::Argument),
        1 => prop::sample::select(vec!["0", "root", "0:0"]).prop_map(Step::User),
    ]
}

impl Deed {
    fn command(&self) -> String {
        let at = |place: &str| format!("/w/{place}");
        match self {
            Deed::Write(to, byte) => format!("echo {byte} > {}", at(to)),
            Deed::Append(to, byte) => format!("echo {byte} >> {}", at(to)),
            Deed::Directory(to) => format!("mkdir -p {}", at(to)),
            Deed::Remove(what) => format!("rm -rf {}", at(what)),
            Deed::Move(from, to) => format!("mv {} {}", at(from), at(to)),
            Deed::Copy(from, to) => format!("cp -a {} {}", at(from), at(to)),
            Deed::HardLink(from, to) => format!("ln {} {}", at(from), at(to)),
            Deed::Symlink(to, from) => format!("ln -sn {} {}", at(to), at(from)),
            Deed::Mode(what, mode) => format!("chmod {mode:o} {}", at(what)),
            Deed::Time(what, time) => format!("touch -hd @{time} {}", at(what)),
            Deed::Hole(what, size) => format!("truncate -s {size} {}", at(what)),
            Deed::Fifo(to) => format!("mkfifo {}", at(to)),
            Deed::Replace(to) => format!("rm -rf {0}; mkdir {0}; echo new > {0}/f", at(to)),
        }
    }
}

impl Step {
    fn line(&self) -> String {
        match self {
            // One that reads a fifo would wait for ever.
            Step::Run(deeds) => {
                let commands = deeds
                    .iter()
                    .map(|deed| format!("timeout 5 sh -c '{}' 2> /dev/null < /dev/null", deed.command()));
                format!("RUN {}; :", commands.collect::<Vec<_>>().join("; "))
            }
            Step::Bring(from, to, flags) => format!("COPY {flags}{from} {to}"),
            Step::Take(from, to, flags) => format!("COPY --from=side {flags}{from} {to}"),
            Step::Unpack(to) => format!("ADD archive.tar {to}"),
            Step::Tell(to) => format!("RUN [ -p /w/{to} ] || echo $VALUE $CHOSEN > /w/{to}; :"),
            Step::Workdir(to) => format!("WORKDIR {to}"),
            Step::Environment(value) => format!("ENV VALUE={value}"),
            Step::Argument(value) => format!("ARG CHOSEN={value}"),
            Step::User(user) => format!("USER {user}"),
        }
    }
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Tells the tree below /w, a line a file, each behind `@`. Sizes of directories and their links are the filesystem's own.
const TELL: &str = "cd /w && find . | sort | while read -r path; do \
    if [ -L \"$path\" ]; then stat -c \"@ %n %N %u:%g %Y\" \"$path\"; \
    elif [ -d \"$path\" ]; then stat -c \"@ %n %F %a %u:%g %Y\" \"$path\"; \
    elif [ -f \"$path\" ]; then stat -c \"@ %n %F %a %u:%g %Y %s %h $(md5sum < \"$path\")\" \"$path\"; \
    else stat -c \"@ %n %F %a %u:%g %Y %h\" \"$path\"; fi; done";

fn told(said: &str) -> Vec<&str> {
    said.lines()
        .filter_map(|line| line.split_once("@ ").map(|(_, file)| file))
        .filter(|file| file.starts_with('.')) // the command's own text does not
        .collect()
}

impl Step {
    /// Does it make a layer, so that it is counted?
    fn is_counted(&self) -> bool {
        !matches!(self, Step::Environment(_) | Step::Argument(_) | Step::User(_))
    }
}

/// What the steps stand on. The other stage is built if one of them takes something from it.
const BEGIN: &str = "FROM base AS side\n\
    RUN mkdir -p /s/tree/deep && cd /s && echo s > file && ln file linked && ln -s file tree/link && chmod 2711 tree/deep \
    && echo d > tree/deep/f\n\
    FROM base\nWORKDIR /w\n";

fn dockerfile(steps: &[Step]) -> String {
    let lines: Vec<String> = steps.iter().map(Step::line).collect();
    format!("{BEGIN}{}\n", lines.join("\n"))
}

fn check(project: &Project, steps: &[Step], changed: usize) -> Result<(), TestCaseError> {
    let text = dockerfile(steps);
    // The last one changes nothing, and sees what the image must be.
    let done = Done::of(&mut project.command(&format!("{text}RUN --network=none {TELL}\n"), &["--no-cache"]));
    if !done.status.success() {
        // A directory is wanted where a RUN has put something else, or a file where it has put a directory.
        // Or a link that leads to itself.
        let meant = [
            "Not a directory",
            "not a directory",
            "Is a directory",
            "Too many levels of symbolic links",
        ]
        .iter()
        .any(|why| done.stderr.contains(why));
        prop_assert!(meant && done.status.code() == Some(1), "{done}");
        return Err(TestCaseError::reject("a file and a directory of one name"));
    }
    let inside = project.sh(TELL);
    prop_assert_eq!(
        told(&done.stderr),
        told(&inside),
        "the image is what its last step saw\n{}",
        text
    );

    let fixed = ["--timestamp", "1700000000"];
    let first = project.build(&text, &fixed);
    let again = project.build(&text, &fixed);
    prop_assert_eq!(&again.run, &Vec::<String>::new(), "all is cached\n{}", &text);
    prop_assert_eq!(&again.id, &first.id, "from the cache\n{}", &text);
    let clean = project.build(&text, &["--no-cache", "--timestamp", "1700000000"]);
    prop_assert_eq!(&clean.id, &first.id, "clean\n{}", &text);

    // One more file in the middle: what is before it stays, itself it is made.
    let changed = changed % (steps.len() + 1);
    let mut lines: Vec<String> = steps.iter().map(Step::line).collect();
    // No other case has it.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    lines.insert(changed, format!("RUN echo changed {number} > /w/changed"));
    let text = format!("{BEGIN}{}\n", lines.join("\n"));
    let other = project.build(&text, &fixed);
    let before = steps[..changed].iter().filter(|step| step.is_counted());
    // WORKDIR of the start, and the other stage.
    let taken = steps.iter().any(|step| matches!(step, Step::Take(..)));
    let wanted = before.count() + 1 + usize::from(taken);
    prop_assert_eq!(
        other.cached.len().min(wanted),
        wanted,
        "what is before\n{}\n{}",
        &text,
        &other.said
    );
    // The other stage has not changed, whatever comes from it where.
    let is_side = |step: &String| step.starts_with("RUN mkdir -p /s/tree/deep");
    let found = other.cached.iter().filter(|step| is_side(step)).count();
    prop_assert_eq!(found, usize::from(taken), "the other stage\n{}", &other.said);
    prop_assert!(!other.run.iter().any(is_side), "the other stage\n{}", &other.said);
    prop_assert!(
        other.run.iter().any(|step| step.contains("changed")),
        "{}",
        &other.said
    );
    Ok(())
}

fn project() -> Project {
    let project = Project::new();
    for (path, text) in [
        ("one", "1"),
        ("two", "22"),
        ("tree/x", "x"),
        ("tree/deep/y", "yy"),
        ("tree/deep/f", "f"),
    ] {
        project.write(path, text);
    }
    let archive = project.path("archive.tar");
    let mut tar = std::process::Command::new("tar");
    tar.args(["--owner=0", "--group=0", "-cf"]).arg(archive);
    let done = Done::of(tar.arg("-C").arg(project.path("")).args(["one", "tree"]));
    assert!(done.status.success(), "{done}");
    project
}

/// More of them: `PROPTEST_CASES=200 cargo test --test build sequences`.
#[test]
fn any_sequence_of_steps_gives_what_its_commands_saw() {
    let project = project();
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|number| number.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(8),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..7), changed in any::<usize>())| {
        check(&project, &steps, changed)?;
    });
}
