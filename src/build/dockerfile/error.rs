//! What is wrong with a Dockerfile, where, and what was probably meant?

use super::{ExpandError, MountError};

/// Lines of a Dockerfile, from 1, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The first line.
    pub first: u32,
    /// The last line: of the last continuation or here-document.
    pub last: u32,
}

/// Why a Dockerfile was refused. Its text is one line and does not say the place: whoever prints it has the file's
/// name and shows the lines around.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct ParseError {
    place: Place,
    fault: Fault,
}

impl ParseError {
    pub(super) fn new(place: Place, fault: Fault) -> Self {
        Self { place, fault }
    }

    /// The lines of the instruction that is wrong.
    pub fn place(&self) -> Place {
        self.place
    }

    /// What is wrong with it.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// What can be wrong.
#[derive(Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // Each says itself.
pub enum Fault {
    #[error("the Dockerfile has {bytes} bytes; at most {} are read", super::MAX_TEXT)]
    TooLong { bytes: usize },
    #[error("the file has no instructions")]
    NoInstructions,
    #[error("the Dockerfile has no stage to build: FROM is missing")]
    NoStages,
    #[error("{instruction} comes before the first FROM; only ARG may")]
    BeforeFrom { instruction: String },
    #[error("the parser directive {name} may be used only once")]
    DirectiveTwice { name: String },
    #[error("the escape directive takes \\ or `, not {}", shown(.0))]
    BadEscape(String),
    #[error("unknown instruction {}{}", shown(.name), meant(.near))]
    UnknownInstruction {
        name: String,
        near: Option<&'static str>,
    },
    #[error("{instruction} has no flag --{}{}", clean(.flag), meant_flag(.near))]
    UnknownFlag {
        instruction: &'static str,
        flag: String,
        near: Option<&'static str>,
    },
    #[error("{instruction}: --{flag} is given twice")]
    FlagTwice {
        instruction: &'static str,
        flag: &'static str,
    },
    #[error("{instruction}: --{flag} needs a value")]
    FlagWithoutValue {
        instruction: &'static str,
        flag: &'static str,
    },
    #[error("{instruction}: --{flag} takes true or false, not {}", shown(.value))]
    FlagNotBool {
        instruction: &'static str,
        flag: &'static str,
        value: String,
    },
    #[error("{instruction}: --{flag}={}: {why}", clean(.value))]
    FlagValue {
        instruction: &'static str,
        flag: &'static str,
        value: String,
        why: &'static str,
    },
    #[error("{0} needs at least one argument")]
    NoArgument(&'static str),
    #[error("{0} needs exactly one argument")]
    NotOneArgument(&'static str),
    #[error("{0} needs two arguments, a name and a value")]
    NotTwoArguments(&'static str),
    #[error("{0} needs at least one source and a destination")]
    NoDestination(&'static str),
    #[error("{0} cannot have a here-document as its destination")]
    HeredocAsDestination(&'static str),
    #[error("{0}: a name is empty")]
    EmptyName(&'static str),
    #[error("{instruction}: no = in {}; the form is name=value", shown(.word))]
    NoEquals { instruction: &'static str, word: String },
    #[error("a JSON array here may hold only strings")]
    NotStrings,
    #[error("SHELL needs the JSON form, as in SHELL [\"/bin/bash\", \"-c\"]")]
    ShellNotJson,
    #[error("FROM takes an image, or an image, AS and a name")]
    FromArguments,
    #[error("{} cannot name a stage: a letter comes first, then letters, digits, -, _ and .", shown(.0))]
    StageName(String),
    #[error("{0} cannot be a trigger of ONBUILD")]
    NoTrigger(&'static str),
    #[error("a trigger is one instruction")]
    NotOneTrigger,
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    #[error("HEALTHCHECK needs CMD or NONE, not {}", shown(.0))]
    HealthcheckKind(String),
    #[error("HEALTHCHECK CMD needs a command")]
    HealthcheckCommand,
    #[error("VOLUME: a path is empty")]
    EmptyVolume,
    #[error("the here-document {} has no end: no line is just {}", shown(.0), clean(.0))]
    OpenHeredoc(String),
    #[error("a here-document's name: {0}")]
    HeredocName(ExpandError),
    #[error("RUN --mount: {0}")]
    Mount(#[from] MountError),
}

/// The text in quotes, in one line of bounded length.
pub(super) fn shown(text: &str) -> String {
    format!("\"{}\"", clean(text))
}

/// The text in one line of bounded length.
pub(super) fn clean(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut start: String = text.chars().take(LONGEST).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    crate::line::printable_line(&start)
}

pub(super) fn meant(near: &Option<&'static str>) -> String {
    near.map(|name| format!(" (did you mean {name}?)"))
        .unwrap_or_default()
}

fn meant_flag(near: &Option<&'static str>) -> String {
    near.map(|name| format!(" (did you mean --{name}?)"))
        .unwrap_or_default()
}

/// The name of `names` that was probably meant: less than three letters away.
pub(super) fn nearest(text: &str, names: &[&'static str]) -> Option<&'static str> {
    /// Further than any name; comparing costs the product of both lengths.
    const LONGEST: usize = 32;
    if text.len() > LONGEST {
        return None;
    }
    let distance = |name: &&'static str| strsim::osa_distance(&text.to_lowercase(), &name.to_lowercase());
    let near = names
        .iter()
        .map(|name| (distance(name), *name))
        .min_by_key(|(distance, _)| *distance)?;
    (near.0 < 3 && near.0 < text.chars().count()).then_some(near.1)
}
