//! Is the Dockerfile language read as its reference and BuildKit's own tests say?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

use bryo::build::dockerfile::{Command, Instruction, parse};

#[test]
fn a_whole_file() {
    let file = parse(
        "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=linux/arm64 alpine:$V AS Base\n\
         RUN --mount=type=cache,target=/x make \\\n # why\n  all\nCOPY <<-\"A\" <<B /d/\n\t$x\n\tA\nb\nB\nCMD [\"a\", \"b\"]\n",
    )
    .unwrap();
    assert_eq!(file.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    let stage = &file.stages[0];
    assert_eq!(stage.from.name.as_deref(), Some("base"));
    assert_eq!((stage.steps[0].place.first, stage.steps[0].place.last), (4, 6));
    assert_eq!(stage.steps[0].text, "RUN --mount=type=cache,target=/x make   all");
    assert_eq!(
        stage.steps[2].instruction,
        Instruction::Cmd(Command::Exec(vec!["a".into(), "b".into()]))
    );
}
