//! Commands on images.

mod foreign;
mod history;
mod inspect;
mod list;
mod load;
mod place;
mod prune;
mod push;
mod remove;
mod save;
mod store;
mod tag;

use std::process::ExitCode;

use super::report::Failure;
use crate::containers::record::{self, Record};
use crate::images;
use crate::images::remove::Use;
use crate::store::Store;

pub(super) use inspect::found as inspect_image;
pub(super) use prune::told as pruned_images;
pub(super) use remove::remove_quietly as remove_image;

#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Download an image from a registry or an archive
    Pull(super::pull::Pull),
    /// Send an image to a registry
    Push(push::Push),
    /// Write images to an archive
    Save(save::Save),
    /// Read images from an archive
    Load(load::Load),
    /// List images
    Images(list::List),
    /// Remove one or more images
    Rmi(remove::Remove),
    /// Create a tag that refers to an image
    Tag(tag::Tag),
    /// Show how an image was made
    History(history::History),
    /// Work on images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Work on the store
    #[command(subcommand)]
    Store(store::StoreCommand),
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImageCommand {
    /// Download an image from a registry or an archive
    Pull(super::pull::Pull),
    /// Send an image to a registry
    Push(push::Push),
    /// Write images to an archive
    Save(save::Save),
    /// Read images from an archive
    Load(load::Load),
    /// List images
    #[command(name = "ls", alias = "list")]
    List(list::List),
    /// Remove one or more images
    #[command(name = "rm", alias = "remove")]
    Remove(remove::Remove),
    /// Create a tag that refers to an image
    Tag(tag::Tag),
    /// Show how an image was made
    History(history::History),
    /// Show all that is known of one or more images
    Inspect(inspect::Inspect),
    /// Remove images that nothing uses
    Prune(prune::Prune),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open()?;
        match self {
            Command::Pull(pull) | Command::Image(ImageCommand::Pull(pull)) => return pull.run(&store),
            Command::Push(push) | Command::Image(ImageCommand::Push(push)) => push.run(&store)?,
            Command::Save(save) | Command::Image(ImageCommand::Save(save)) => save.run(&store)?,
            Command::Load(load) | Command::Image(ImageCommand::Load(load)) => load.run(&store)?,
            Command::Images(list) | Command::Image(ImageCommand::List(list)) => list.run(&store)?,
            Command::Rmi(remove) | Command::Image(ImageCommand::Remove(remove)) => return remove.run(&store),
            Command::Tag(tag) | Command::Image(ImageCommand::Tag(tag)) => tag.run(&store)?,
            Command::History(history) | Command::Image(ImageCommand::History(history)) => {
                history.run(&store)?
            }
            Command::Image(ImageCommand::Inspect(inspect)) => return inspect.run(&store),
            Command::Image(ImageCommand::Prune(prune)) => prune.run(&store)?,
            Command::Store(command) => return command.run(&store),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The images that containers were made from: what a removal must leave.
pub(super) fn uses(store: &Store) -> Result<Vec<Use>, images::Error> {
    let used = |record: Record| {
        Some(Use {
            image: *record.base.image()?,
            is_running: record.life.supervisor().is_some(),
            container: record.id,
        })
    };
    let records = record::all(store).map_err(|error| images::Error::Uses(Box::new(error)))?;
    Ok(records.into_iter().filter_map(used).collect())
}

/// Seconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
