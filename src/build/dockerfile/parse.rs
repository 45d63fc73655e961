//! Text → stages of typed instructions.
//!
//! As BuildKit's `frontend/dockerfile/instructions` (parse.go) reads them, flags included. Stricter in three ways,
//! where BuildKit would go on and mean nothing: unknown flags are refused on STOPSIGNAL and ARG too, what ONBUILD
//! will run is checked when it is read, and `COPY --from` with a variable is refused here, before anything runs.

use super::duration::nanoseconds;
use super::error::{Fault, ParseError, nearest};
use super::flags::{Flags, Kind, split};
use super::lex::Lexer;
use super::words::{cut, fields, json, words};
use super::{
    Arg, Command, Dockerfile, From, Healthcheck, Heredoc, Instruction, MountFlag, Place, Run, Stage, Step,
};

const NAMES: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile.
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    let mut lexer = Lexer::new(text)?;
    let (mut args, mut stages) = (Vec::new(), Vec::<Stage>::new());
    while let Some((place, text, parsed)) = next(&mut lexer)? {
        match (parsed, stages.last_mut()) {
            (Parsed::From(from), _) => stages.push(Stage {
                from,
                steps: Vec::new(),
            }),
            (Parsed::Step(Instruction::Arg(more)), None) => args.extend(more),
            (Parsed::Step(_), None) => {
                let instruction = text.split_whitespace().next().unwrap_or_default().to_uppercase();
                return Err(ParseError::new(place, Fault::BeforeFrom { instruction }));
            }
            (Parsed::Step(instruction), Some(stage)) => stage.steps.push(Step {
                place,
                text,
                instruction,
            }),
        }
    }
    if stages.is_empty() {
        let last = lexer.last().max(1);
        let fault = if args.is_empty() {
            Fault::NoInstructions
        } else {
            Fault::NoStages
        };
        return Err(ParseError::new(Place { first: last, last }, fault));
    }
    Ok(Dockerfile {
        directives: lexer.directives().clone(),
        args,
        stages,
        empty_continuations: lexer.empty_continuations().to_vec(),
    })
}

/// Reads the trigger that ONBUILD left in an image: one instruction, here-documents included.
pub fn parse_trigger(text: &str) -> Result<Step, ParseError> {
    let mut lexer = Lexer::new(text)?;
    let first = next(&mut lexer)?;
    let more = next(&mut lexer)?;
    let whole = Place {
        first: 1,
        last: lexer.last().max(1),
    };
    match (first, more) {
        (Some((place, text, parsed)), None) => match trigger(parsed) {
            Ok(instruction) => Ok(Step {
                place,
                text,
                instruction,
            }),
            Err(fault) => Err(ParseError::new(place, fault)),
        },
        _ => Err(ParseError::new(whole, Fault::NotOneTrigger)),
    }
}

/// What a line says.
enum Parsed {
    From(From),
    Step(Instruction),
}

/// What an ONBUILD may say.
fn trigger(parsed: Parsed) -> Result<Instruction, Fault> {
    match parsed {
        Parsed::From(_) => Err(Fault::NoTrigger("FROM")),
        Parsed::Step(Instruction::OnBuild(_)) => Err(Fault::NoTrigger("ONBUILD")),
        Parsed::Step(Instruction::Maintainer(_)) => Err(Fault::NoTrigger("MAINTAINER")),
        Parsed::Step(instruction) => Ok(instruction),
    }
}

/// The next instruction with its place and text.
fn next(lexer: &mut Lexer) -> Result<Option<(Place, String, Parsed)>, ParseError> {
    let Some(line) = lexer.next()? else {
        return Ok(None);
    };
    let refused = |last, fault| {
        ParseError::new(
            Place {
                first: line.first,
                last,
            },
            fault,
        )
    };
    let text = line.text.trim();
    let mut heredocs = heredocs(text).map_err(|fault| refused(lexer.last(), fault))?;
    for heredoc in &mut heredocs {
        if !lexer.heredoc(heredoc) {
            return Err(refused(lexer.last(), Fault::OpenHeredoc(heredoc.name.clone())));
        }
    }
    let place = Place {
        first: line.first,
        last: lexer.last(),
    };
    let parsed = Request::new(text, lexer.directives().escape, heredocs)
        .and_then(|request| request.parse(place, &line.comments))
        .map_err(|fault| ParseError::new(place, fault))?;
    Ok(Some((place, text.to_owned(), parsed)))
}

/// The here-documents that an instruction announces. Only three may, and not in the JSON form.
fn heredocs(text: &str) -> Result<Vec<Heredoc>, Fault> {
    let (mut name, mut rest) = cut(text).unwrap_or((text, ""));
    if name.eq_ignore_ascii_case("ONBUILD") {
        (name, rest) = cut(split(rest).1).unwrap_or((rest, ""));
    }
    let may = ["RUN", "COPY", "ADD"]
        .iter()
        .any(|one| name.eq_ignore_ascii_case(one));
    match may && json(split(rest).1)?.is_none() {
        true => Heredoc::of_line(text),
        false => Ok(Vec::new()),
    }
}

/// The first of the comments that begins with a name: what it says behind that.
fn description(comments: &[String], name: &str) -> Option<String> {
    let behind = |comment: &String| Some(comment.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    comments.iter().find_map(behind)
}

/// An instruction, not yet read.
pub(super) struct Request<'a> {
    pub(super) name: &'static str,
    /// The whole instruction as one line.
    text: &'a str,
    flags: Vec<String>,
    /// What stands behind the flags, without white space around.
    rest: &'a str,
    pub(super) heredocs: Vec<Heredoc>,
    escape: char,
}

impl<'a> Request<'a> {
    fn new(text: &'a str, escape: char, heredocs: Vec<Heredoc>) -> Result<Self, Fault> {
        let (name, rest) = cut(text).unwrap_or((text, ""));
        let Some(known) = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            return Err(Fault::UnknownInstruction {
                name: name.to_owned(),
                near: nearest(name, NAMES),
            });
        };
        let (flags, rest) = split(rest);
        Ok(Self {
            name: known,
            text,
            flags,
            rest,
            heredocs,
            escape,
        })
    }

    fn parse(self, place: Place, comments: &[String]) -> Result<Parsed, Fault> {
        Ok(Parsed::Step(match self.name {
            "FROM" => return self.from(place, comments).map(Parsed::From),
            "ADD" => Instruction::Add(self.add()?),
            "ARG" => Instruction::Arg(self.arg(place, comments)?),
            "CMD" => Instruction::Cmd(self.plain()?.command()?),
            "COPY" => Instruction::Copy(self.copy()?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.plain()?.command()?),
            "ENV" => Instruction::Env(self.plain()?.pairs()?),
            "EXPOSE" => Instruction::Expose(self.plain()?.list(fields(self.rest))?),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck()?),
            "LABEL" => Instruction::Label(self.plain()?.pairs()?),
            "MAINTAINER" => Instruction::Maintainer(self.plain()?.one()?),
            "ONBUILD" => Instruction::OnBuild(self.onbuild(place)?),
            "RUN" => Instruction::Run(self.run()?),
            "SHELL" => Instruction::Shell(self.plain()?.shell()?),
            "STOPSIGNAL" => Instruction::StopSignal(self.plain()?.one()?),
            "USER" => Instruction::User(self.plain()?.one()?),
            "VOLUME" => Instruction::Volume(self.plain()?.volumes()?),
            _ => Instruction::Workdir(self.plain()?.one()?),
        }))
    }

    pub(super) fn flags(&self, known: &[(&'static str, Kind)]) -> Result<Flags, Fault> {
        Flags::parse(self.name, &self.flags, known)
    }

    /// An instruction without flags.
    fn plain(&self) -> Result<&Self, Fault> {
        self.flags(&[])?;
        Ok(self)
    }

    /// The whole rest as one argument.
    fn one(&self) -> Result<String, Fault> {
        match self.rest {
            "" => Err(Fault::NotOneArgument(self.name)),
            rest => Ok(rest.to_owned()),
        }
    }

    fn list(&self, words: Vec<String>) -> Result<Vec<String>, Fault> {
        if words.is_empty() {
            Err(Fault::NoArgument(self.name))
        } else {
            Ok(words)
        }
    }

    /// A JSON array, or words between white space.
    pub(super) fn json_or_fields(&self) -> Result<Vec<String>, Fault> {
        Ok(json(self.rest)?.unwrap_or_else(|| fields(self.rest)))
    }

    /// A command in either form.
    fn command(&self) -> Result<Command, Fault> {
        command(self.rest)
    }

    /// `name=value …`, or the old form `name value with spaces`.
    fn pairs(&self) -> Result<Vec<(String, String)>, Fault> {
        let words = self.list(words(self.rest, self.escape))?;
        if words.first().is_some_and(|first| !first.contains('=')) {
            let (name, value) = cut(self.rest).ok_or(Fault::NotTwoArguments(self.name))?;
            return Ok(vec![(name.to_owned(), value.to_owned())]);
        }
        let pair = |word: &String| match word.split_once('=') {
            None => Err(Fault::NoEquals {
                instruction: self.name,
                word: word.clone(),
            }),
            Some(("", _)) => Err(Fault::EmptyName(self.name)),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        };
        words.iter().map(pair).collect()
    }

    fn arg(&self, place: Place, comments: &[String]) -> Result<Vec<Arg>, Fault> {
        let words = self.plain()?.list(words(self.rest, self.escape))?;
        let arg = |word: String| {
            let (name, default) = match word.split_once('=') {
                Some(("", _)) => return Err(Fault::EmptyName("ARG")),
                Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
                None => (word, None),
            };
            Ok(Arg {
                description: description(comments, &name),
                name,
                default,
                place,
            })
        };
        words.into_iter().map(arg).collect()
    }

    fn shell(&self) -> Result<Vec<String>, Fault> {
        match json(self.rest)? {
            Some(words) => self.list(words),
            None if self.rest.is_empty() => Err(Fault::NoArgument("SHELL")),
            None => Err(Fault::ShellNotJson),
        }
    }

    fn volumes(&self) -> Result<Vec<String>, Fault> {
        let path = |path: String| match path.trim() {
            "" => Err(Fault::EmptyVolume),
            path => Ok(path.to_owned()),
        };
        self.list(self.json_or_fields()?)?.into_iter().map(path).collect()
    }

    fn from(&self, place: Place, comments: &[String]) -> Result<From, Fault> {
        let flags = self.flags(&[("platform", Kind::Text)])?;
        let mut words = fields(self.rest).into_iter();
        let (image, name) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(image), None, ..) => (image, None),
            (Some(image), Some(word), Some(name), None) if word.eq_ignore_ascii_case("AS") => {
                (image, Some(stage_name(&name)?))
            }
            _ => return Err(Fault::FromArguments),
        };
        let platform = flags.filled("platform");
        Ok(From {
            place,
            text: self.text.to_owned(),
            image,
            platform,
            description: name.as_ref().and_then(|name| description(comments, name)),
            name,
        })
    }

    fn run(self) -> Result<Run, Fault> {
        let flags = self.flags(&[
            ("device", Kind::Texts),
            ("mount", Kind::Texts),
            ("network", Kind::Text),
            ("security", Kind::Text),
        ])?;
        let mounts = flags.texts("mount");
        Ok(Run {
            command: self.command()?,
            mounts: mounts
                .iter()
                .map(|text| MountFlag::parse(text, self.escape))
                .collect::<Result<_, _>>()?,
            network: one_of("network", flags.text("network"), &["default", "none", "host"])?,
            security: one_of("security", flags.text("security"), &["sandbox", "insecure"])?,
            devices: flags.texts("device"),
            heredocs: self.heredocs,
        })
    }

    fn healthcheck(&self) -> Result<Healthcheck, Fault> {
        let flags = self.flags(&[
            ("interval", Kind::Text),
            ("retries", Kind::Text),
            ("start-interval", Kind::Text),
            ("start-period", Kind::Text),
            ("timeout", Kind::Text),
        ])?;
        let (kind, rest) = match self.rest.split_once(char::is_whitespace) {
            Some((kind, rest)) => (kind, rest.trim_start()),
            None => (self.rest, ""),
        };
        match kind.to_uppercase().as_str() {
            "" => Err(Fault::NoArgument("HEALTHCHECK")),
            "NONE" if rest.is_empty() => Ok(Healthcheck::None),
            "NONE" => Err(Fault::HealthcheckNone),
            "CMD" => {
                let command = command(rest)?;
                if matches!(&command, Command::Exec(words) if words.is_empty()) || rest.is_empty() {
                    return Err(Fault::HealthcheckCommand);
                }
                Ok(Healthcheck::Check {
                    interval: interval(&flags, "interval")?,
                    timeout: interval(&flags, "timeout")?,
                    start_period: interval(&flags, "start-period")?,
                    start_interval: interval(&flags, "start-interval")?,
                    retries: retries(&flags)?,
                    command,
                })
            }
            _ => Err(Fault::HealthcheckKind(kind.to_owned())),
        }
    }

    /// The trigger's text, after a look whether it can be read.
    fn onbuild(&self, place: Place) -> Result<String, Fault> {
        let text = self.plain()?.rest;
        if text.is_empty() {
            return Err(Fault::NoArgument("ONBUILD"));
        }
        trigger(Request::new(text, self.escape, self.heredocs.clone())?.parse(place, &[])?)?;
        let behind = self
            .heredocs
            .iter()
            .map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
        Ok(std::iter::once(text.to_owned()).chain(behind).collect())
    }
}

/// A JSON array of strings is the program and its arguments; all else is text for the shell.
fn command(text: &str) -> Result<Command, Fault> {
    Ok(match json(text)? {
        Some(words) => Command::Exec(words),
        None => Command::Shell(text.to_owned()),
    })
}

/// A stage's name in lower case: `^[a-z][a-z0-9-_.]*$`. So none is a number.
fn stage_name(text: &str) -> Result<String, Fault> {
    let name = text.to_lowercase();
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if good {
        Ok(name)
    } else {
        Err(Fault::StageName(text.to_owned()))
    }
}

fn one_of(flag: &'static str, value: Option<String>, known: &[&str]) -> Result<Option<String>, Fault> {
    let why = match flag {
        "network" => "only default, none and host are known",
        _ => "only sandbox and insecure are known",
    };
    match value {
        Some(value) if !known.contains(&value.as_str()) => Err(Fault::FlagValue {
            instruction: "RUN",
            flag,
            value,
            why,
        }),
        value => Ok(value),
    }
}

/// A duration of HEALTHCHECK; 0 is as if it were not given.
fn interval(flags: &Flags, flag: &'static str) -> Result<Option<i64>, Fault> {
    const SHORTEST: i64 = 1_000_000;
    let Some(value) = flags.filled(flag) else {
        return Ok(None);
    };
    let refused = |value, why| Fault::FlagValue {
        instruction: "HEALTHCHECK",
        flag,
        value,
        why,
    };
    match nanoseconds(&value) {
        None => Err(refused(value, "this is no duration, such as 30s or 1m30s")),
        Some(0) => Ok(None),
        Some(short) if short < SHORTEST => Err(refused(value, "less than 1ms is not possible")),
        Some(nanoseconds) => Ok(Some(nanoseconds)),
    }
}

/// How many failures; 0 is as if it were not given.
fn retries(flags: &Flags) -> Result<Option<u32>, Fault> {
    let Some(value) = flags.filled("retries") else {
        return Ok(None);
    };
    match value
        .parse::<i32>()
        .ok()
        .and_then(|count| u32::try_from(count).ok())
    {
        None => {
            let why = "this is no number of failures";
            Err(Fault::FlagValue {
                instruction: "HEALTHCHECK",
                flag: "retries",
                value,
                why,
            })
        }
        Some(count) => Ok(Some(count).filter(|count| *count > 0)),
    }
}
