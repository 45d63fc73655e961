//! Which flags of other programs mean nothing here? Each is accepted because nothing depends on it, or refused with the
//! reason: tables of commands say which.

use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::report::Failure;

// Reasons that several tables have.
pub(super) const LOGIN: &str =
    "logins are those of `podman login` and `docker login`; $REGISTRY_AUTH_FILE names another file";
pub(super) const RUNTIME: &str = "this program runs containers itself";
pub(super) const AGAIN: &str = "a registry that fails is asked again by itself";
pub(super) const AUTHORITIES: &str = "$SSL_CERT_DIR names more certificates";
pub(super) const ENCRYPTED: &str = "encrypted images are not supported";
pub(super) const SIGNED: &str = "signatures are not supported";
pub(super) const UNTRUSTED: &str = "there is no content trust";

/// Whatever the value is.
pub(super) const ANY: &[&str] = &["*"];

/// How a flag is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `--flag` or `--flag=VALUE`.
    Switch,
    /// `--flag VALUE` or `--flag=VALUE`.
    Value,
}

/// One flag.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes: Takes,
    /// Values that ask for what is done anyway; `*` is any. A switch alone is `true`.
    pub(super) fine: &'static [&'static str],
    /// Why others are refused; where none is, why it does not matter.
    pub(super) why: &'static str,
}

/// `--name`, or `--name=VALUE`.
pub(super) const fn switch(name: &'static str, fine: &'static [&'static str], why: &'static str) -> Foreign {
    Foreign {
        name,
        short: None,
        takes: Takes::Switch,
        fine,
        why,
    }
}

/// `--name VALUE`.
pub(super) const fn value(name: &'static str, fine: &'static [&'static str], why: &'static str) -> Foreign {
    Foreign {
        name,
        short: None,
        takes: Takes::Value,
        fine,
        why,
    }
}

/// The same with a letter.
pub(super) const fn short(short: char, foreign: Foreign) -> Foreign {
    Foreign {
        short: Some(short),
        ..foreign
    }
}

/// Those of a command.
pub(super) trait Table {
    /// Each once.
    const FLAGS: &'static [Foreign];
}

/// Those that were given, each with its values.
#[derive(Debug, Clone)]
pub(super) struct Flags<T>(Vec<(&'static str, String)>, PhantomData<T>);

impl<T: Table> Flags<T> {
    /// Refuses the first that asks for something.
    pub(super) fn check(&self) -> Result<(), Failure> {
        for (name, given) in &self.0 {
            let Some(flag) = T::FLAGS.iter().find(|flag| flag.name == *name) else {
                continue;
            };
            if !flag.fine.iter().any(|fine| *fine == "*" || fine == given) {
                let shown = match (flag.takes, flag.fine) {
                    (Takes::Switch, _) | (_, []) => format!("--{name}"),
                    _ => format!("--{name}={given}"),
                };
                return Err(Failure::new(format!("{shown} is not supported: {}", flag.why)).code(125));
            }
        }
        Ok(())
    }
}

impl<T: Table> clap::Args for Flags<T> {
    fn augment_args(command: Command) -> Command {
        T::FLAGS.iter().fold(command, |command, flag| {
            let mut arg = Arg::new(flag.name)
                .long(flag.name)
                .hide(true)
                .action(ArgAction::Append);
            if let Some(short) = flag.short {
                arg = arg.short(short);
            }
            command.arg(match flag.takes {
                Takes::Switch => arg
                    .num_args(0..=1)
                    .default_missing_value("true")
                    .require_equals(true),
                Takes::Value => arg.num_args(1).allow_hyphen_values(true),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::<T>::augment_args(command)
    }
}

impl<T: Table> clap::FromArgMatches for Flags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags<T>, clap::Error> {
        let given = T::FLAGS.iter().flat_map(|flag| {
            let values = matches.get_many::<String>(flag.name).into_iter().flatten();
            values.map(|value| (flag.name, value.clone()))
        });
        Ok(Flags(given.collect(), PhantomData))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Flags::<T>::from_arg_matches(matches)?;
        Ok(())
    }
}
