//! Text as a Dockerfile: refused in one short line at a place in the file, or its places are in order and each trigger
//! can be read again.
#![no_main]

use bryo::build::dockerfile::{Instruction, parse, parse_trigger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines = text.lines().count().max(1) as u32;
    let file = match parse(text) {
        Ok(file) => file,
        Err(error) => {
            let (line, place) = (error.to_string(), error.place());
            assert!(!line.is_empty() && line.chars().count() < 1000 && !line.contains(char::is_control));
            assert!(1 <= place.first && place.first <= place.last && place.last <= lines);
            return;
        }
    };
    assert!(!file.stages.is_empty());
    let mut last = 0;
    for stage in &file.stages {
        let places = stage.steps.iter().map(|step| step.place);
        for place in std::iter::once(stage.from.place).chain(places) {
            assert!(last < place.first && place.first <= place.last && place.last <= lines);
            last = place.last;
        }
        for step in &stage.steps {
            if let (Instruction::OnBuild(trigger), '\\') = (&step.instruction, file.directives.escape) {
                // Its own lines could read as directives, comments or continuations only where the file's did.
                let _ = parse_trigger(trigger);
            }
            if let Instruction::Run(run) = &step.instruction {
                let _ = run.script();
                run.mounts.iter().for_each(|mount| drop(mount.resolve(&|word| Ok(word.to_owned()))));
            }
        }
    }
});
