//! `pull`: flags → one pull → Docker's lines, or bars on a terminal.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::report::Failure;
use crate::images::manifest::Platform;
use crate::images::pull::{self, LayerEvent, News, Progress, PullError, Pulled, Source};
use crate::images::reference::Reference;
use crate::images::registry::Registries;
use crate::store::{Digest, Store};

/// Flags of `pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// Pull all tagged images of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    /// Pull for this platform, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Accepted for Docker's sake: there is no content trust to disable
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    disable_content_trust: Option<bool>,
    /// Require HTTPS and verify certificates; false is for registries that have neither
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls_verify: Option<bool>,
    /// A name, or oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME]
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

impl Pull {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        if self.all_tags {
            let refused = Failure::new("--all-tags is not supported").code(125);
            return Err(refused.hint(Some("pull the tags one by one")));
        }
        let order = Order {
            image: &self.image,
            platform: self.platform.as_ref(),
            insecure: self.tls_verify == Some(false),
            shown: if self.quiet { Shown::Nothing } else { Shown::Stdout },
        };
        let pulled = order.carry_out(store)?;
        let full = pulled
            .names
            .first()
            .map_or(pulled.image.id.to_string(), ToString::to_string);
        print_line(&mut std::io::stdout(), &full)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Where is the progress shown?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// `pull`.
    Stdout,
    /// `run`, whose stdout is the container's.
    Stderr,
    /// `-q`.
    Nothing,
}

/// A pull that some command wants.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) image: &'a str,
    pub(crate) platform: Option<&'a Platform>,
    /// Believe any certificate of the name's registry and speak plain HTTP to it.
    pub(crate) insecure: bool,
    pub(crate) shown: Shown,
}

impl Order<'_> {
    /// Pulls, with progress and Docker's closing lines.
    pub(crate) fn carry_out(&self, store: &Store) -> Result<Pulled, Failure> {
        let mut registries = Registries::load().map_err(PullError::from)?;
        if self.insecure {
            registries.trust_all();
        }
        let source = Source::open(self.image, &registries)?;
        let (mut out, is_terminal): (Box<dyn Write + Send>, bool) = match self.shown {
            Shown::Nothing => (Box::new(std::io::sink()), false),
            Shown::Stdout => (Box::new(std::io::stdout()), std::io::stdout().is_terminal()),
            Shown::Stderr => (Box::new(std::io::stderr()), std::io::stderr().is_terminal()),
        };
        let typed = Reference::parse(self.image);
        // `run` has named it with its tag.
        if self.shown == Shown::Stdout
            && typed.is_ok_and(|name| name.tag().is_none() && name.digest().is_none())
        {
            print_line(&mut out, "Using default tag: latest")?;
        }
        let pulled = if is_terminal {
            let bars = Bars::new(self.shown);
            pull::pull(store, &source, self.platform, pull::Naming::All, &bars)?
        } else {
            let lines = Lines {
                out: Mutex::new(&mut *out),
            };
            pull::pull(store, &source, self.platform, pull::Naming::All, &lines)?
        };
        self.close(&mut *out, &pulled)?;
        Ok(pulled)
    }

    fn close(&self, out: &mut dyn Write, pulled: &Pulled) -> Result<(), Failure> {
        let host = Platform::host();
        if self.platform.is_none() && !host.accepts(&pulled.platform) {
            let found = &pulled.platform;
            crate::line::say!("WARNING: the image's platform ({found}) does not match the host's ({host})");
        }
        let familiar = pulled
            .names
            .first()
            .map_or(pulled.image.id.to_string(), |name| name.familiar());
        print_line(out, &format!("Digest: {}", pulled.digest))?;
        print_line(
            out,
            &match pulled.news {
                News::Newer => format!("Status: Downloaded newer image for {familiar}"),
                News::UpToDate => format!("Status: Image is up to date for {familiar}"),
            },
        )
    }
}

fn print_line(out: &mut dyn Write, line: &str) -> Result<(), Failure> {
    match writeln!(out, "{line}") {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(format!("cannot print: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// A blob's id in Docker's output.
fn short(blob: &Digest) -> String {
    blob.hex().chars().take(12).collect()
}

/// A line for each thing that happens, for logs.
struct Lines<'a> {
    out: Mutex<&'a mut (dyn Write + Send)>,
}

impl Lines<'_> {
    fn line(&self, text: &str) {
        // A log that takes no more lines must not end the pull.
        let _ = writeln!(self.out.lock(), "{text}");
    }
}

impl Progress for Lines<'_> {
    fn begins(&self, heading: &str) {
        self.line(heading);
    }

    fn layer(&self, blob: &Digest, event: LayerEvent) {
        let what = match event {
            LayerEvent::Known => "Pulling fs layer",
            LayerEvent::AlreadyExists => "Already exists",
            LayerEvent::Complete => "Pull complete",
            LayerEvent::Downloading { .. } | LayerEvent::Advanced { .. } => return,
        };
        self.line(&format!("{}: {what}", short(blob)));
    }
}

/// A bar for each layer, for people.
struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn new(shown: Shown) -> Bars {
        let target = match shown {
            Shown::Stdout => ProgressDrawTarget::stdout(),
            Shown::Stderr => ProgressDrawTarget::stderr(),
            Shown::Nothing => ProgressDrawTarget::hidden(),
        };
        Bars {
            all: MultiProgress::with_draw_target(target),
            layers: Mutex::default(),
        }
    }

    fn bar(&self, blob: &Digest) -> ProgressBar {
        let new = || {
            let bar = self.all.add(ProgressBar::new(0));
            bar.set_style(style("{prefix}: {msg}"));
            bar.set_prefix(short(blob));
            bar
        };
        self.layers.lock().entry(*blob).or_insert_with(new).clone()
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a wrong one would show bars of the default kind.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Progress for Bars {
    fn begins(&self, heading: &str) {
        // Where nothing can be printed there are no bars either.
        let _ = self.all.println(heading);
    }

    fn layer(&self, blob: &Digest, event: LayerEvent) {
        let bar = self.bar(blob);
        match event {
            LayerEvent::Known => bar.set_message("Waiting"),
            LayerEvent::Downloading { size } => {
                bar.set_length(size);
                bar.set_message("Pulling");
                bar.set_style(style(
                    "{prefix}: {msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}",
                ));
            }
            LayerEvent::Advanced { bytes } => bar.inc(bytes),
            LayerEvent::AlreadyExists | LayerEvent::Complete => {
                let complete = event == LayerEvent::Complete;
                bar.set_style(style("{prefix}: {msg}"));
                bar.finish_with_message(if complete {
                    "Pull complete"
                } else {
                    "Already exists"
                });
            }
        }
    }
}
