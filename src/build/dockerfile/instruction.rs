//! What can an instruction say?
//!
//! Values stand here as the file has them, but for the quotes and escapes of flags, which are gone. The engine
//! expands before it uses them, by [`expand`](super::expand) unless the table says otherwise, with the file's escape
//! character:
//!
//! | instruction | expanded |
//! | --- | --- |
//! | FROM | `image`, `platform`: with global ARGs and the platform ARGs only |
//! | RUN | the values of each mount ([`MountFlag::resolve`](super::MountFlag::resolve)); never the command, which the shell expands |
//! | COPY, ADD | `sources`, `dest`, `chown`, `chmod`, `exclude`, `checksum`; here-documents whose name is not quoted by [`expand_text`](super::expand_text); never `from` |
//! | ENV, LABEL | names and values |
//! | ARG | the default, if the builder is given no value; each sees those before it on its line |
//! | WORKDIR, USER, STOPSIGNAL, VOLUME | the value, or each |
//! | EXPOSE | each, by [`expand_words`](super::expand_words): one variable may hold several ports |
//! | CMD, ENTRYPOINT, SHELL, HEALTHCHECK, ONBUILD, MAINTAINER | nothing |
//!
//! A name has the value of the last ENV or ARG of it. All of one ENV line sees the values
//! from before the line: after `ENV a=1`, `ENV a=2 b=$a` sets b to 1.
//!
//! RUN with here-documents: if the command is just the here-document's name (`RUN <<EOF`), then
//! - content that starts with `#!` becomes the file `/dev/pipes/NAME`, mode 0755, which the shell is told to run;
//! - other content is the shell's script (`sh -c CONTENT`); the content is never expanded by the builder.
//!
//! Otherwise (`RUN cat <<EOF > f`) the here-documents are put back behind the command, and the shell reads them
//! itself: [`Run::script`] has the whole text of all three.

use super::{Heredoc, MountFlag, Place};

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    /// `# name=value` lines at the very start.
    pub directives: Directives,
    /// The ARGs before the first FROM, in order. FROM sees them; a stage must name them again.
    pub args: Vec<Arg>,
    /// The stages, never none. Two may have one name: the later counts for what comes behind it.
    pub stages: Vec<Stage>,
    /// The last lines of instructions that empty lines go through.
    pub empty_continuations: Vec<u32>,
}

/// Parser directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The frontend's image, with what follows it. It is never run here.
    pub syntax: Option<String>,
    /// What continues a line and escapes a character: `\` or `` ` ``.
    pub escape: char,
    /// Which lint checks to leave out, and whether their findings are errors.
    pub check: Option<String>,
}

/// FROM and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its beginning.
    pub from: From,
    /// Its instructions.
    pub steps: Vec<Step>,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// Where it stands.
    pub place: Place,
    /// The instruction as one line.
    pub text: String,
    /// An image, the name of an earlier stage, or `scratch`.
    pub image: String,
    /// Its platform.
    pub platform: Option<String>,
    /// The stage's name, in lower case.
    pub name: Option<String>,
    /// What a comment before it, which begins with the stage's name, says of it.
    pub description: Option<String>,
}

/// An instruction at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Where it stands.
    pub place: Place,
    /// The instruction as one line, without comments and here-documents, as progress and history show it.
    pub text: String,
    /// What it says.
    pub instruction: Instruction,
}

/// What a step says.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // Their names are the language's.
pub enum Instruction {
    Run(Run),
    Copy(Copy),
    Add(Add),
    Env(Vec<(String, String)>),
    Arg(Vec<Arg>),
    Label(Vec<(String, String)>),
    Workdir(String),
    User(String),
    Expose(Vec<String>),
    Volume(Vec<String>),
    Cmd(Command),
    Entrypoint(Command),
    Shell(Vec<String>),
    Healthcheck(Healthcheck),
    StopSignal(String),
    /// The trigger's text, here-documents included: [`parse_trigger`](super::parse_trigger) reads it.
    OnBuild(String),
    Maintainer(String),
}

/// `ARG NAME[=DEFAULT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// Its value if the builder is given none.
    pub default: Option<String>,
    /// Where the instruction stands.
    pub place: Place,
    /// What a comment before that, which begins with its name, says of it.
    pub description: Option<String>,
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Text for the shell.
    Shell(String),
    /// A JSON array of strings: the program and its arguments.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The command's line.
    pub command: Command,
    /// The here-documents that the command's line names. None if it is in the JSON form.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<String>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<String>,
    /// `--device`.
    pub devices: Vec<String>,
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// What is copied, in order.
    pub sources: Vec<Source>,
    /// Where to.
    pub dest: String,
    /// `--from`: a stage by name or number, an image, or a named context. It has no variables.
    pub from: Option<String>,
    /// `--chown=USER[:GROUP]`.
    pub chown: Option<String>,
    /// `--chmod`, octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`: a layer of its own that does not look at those below.
    pub link: bool,
    /// `--parents`: a source keeps its directories.
    pub parents: bool,
    /// `--exclude`: patterns of what to leave out.
    pub exclude: Vec<String>,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq)]
pub struct Add {
    /// What is added, in order: paths, URLs of files, git repositories.
    pub sources: Vec<Source>,
    /// Where to.
    pub dest: String,
    /// `--chown=USER[:GROUP]`.
    pub chown: Option<String>,
    /// `--chmod`, octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`: a layer of its own that does not look at those below.
    pub link: bool,
    /// `--exclude`: patterns of what to leave out.
    pub exclude: Vec<String>,
    /// `--checksum`: a digest of a file by URL, or a commit of a git repository.
    pub checksum: Option<String>,
    /// `--keep-git-dir`; not given means no, unless the git URL asks for it.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`; not given means: local archives yes, those by URL no.
    pub unpack: Option<bool>,
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A path, pattern or URL.
    Path(String),
    /// A here-document: a file with its name and [`content`](Heredoc::content).
    Inline(Heredoc),
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// What the base image checks is not checked.
    None,
    /// A command, and when to run it. Durations in nanoseconds.
    Check {
        /// Between two checks.
        interval: Option<i64>,
        /// For one check.
        timeout: Option<i64>,
        /// While failures do not count.
        start_period: Option<i64>,
        /// Between two checks in the start period.
        start_interval: Option<i64>,
        /// How many failures make it unhealthy.
        retries: Option<u32>,
        /// The command.
        command: Command,
    },
}

impl Add {
    /// The words that COPY has, too.
    pub fn as_copy(&self) -> Copy {
        Copy {
            sources: self.sources.clone(),
            dest: self.dest.clone(),
            from: None,
            chown: self.chown.clone(),
            chmod: self.chmod.clone(),
            link: self.link,
            parents: false,
            exclude: self.exclude.clone(),
        }
    }
}

impl Run {
    /// What a here-document that is the whole command holds: `RUN <<EOF`.
    pub fn sole_heredoc(&self) -> Option<&Heredoc> {
        match (&self.command, self.heredocs.as_slice()) {
            (Command::Shell(line), [heredoc]) if super::heredoc::is_one(line) => Some(heredoc),
            _ => None,
        }
    }

    /// The text for the shell, here-documents included; none in the JSON form. A sole here-document that starts
    /// with `#!` is meant as a file instead.
    pub fn script(&self) -> Option<String> {
        let Command::Shell(line) = &self.command else {
            return None;
        };
        if let Some(heredoc) = self.sole_heredoc() {
            return Some(heredoc.text());
        }
        let behind = self
            .heredocs
            .iter()
            .map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
        Some(std::iter::once(line.clone()).chain(behind).collect())
    }
}
