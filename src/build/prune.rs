//! Which of what builds keep goes? All that is chosen; or of that the longest unused, until the rest is small enough. What a
//! build uses now stays, and what images have, unless all is to go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::remove_orphans;
use super::usage::{self, Kept, Kind, Place, Total};
use super::workspace::io_error;
use super::{Error, owner, urls};
use crate::images::list::moment;
use crate::images::{prune, steps};
use crate::store::lock::Attempt;
use crate::store::{Lock, Mode, Store, write};

/// What is to go.
#[derive(Debug, Default)]
pub struct Prune {
    /// Also layers that images have: that frees nothing, but later builds make them again.
    pub all: bool,
    /// Only what these choose.
    pub filters: Filters,
    /// Nothing, as long as what is kept has at most so many bytes of its own; 0 keeps none.
    pub keep: u64,
}

/// BuildKit's filters. All must hold.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filters {
    /// Not used since, in seconds since 1970.
    until: Option<i64>,
    /// What its id begins with.
    id: Option<String>,
    kind: Option<String>,
    in_use: Option<bool>,
    shared: Option<bool>,
}

impl Filters {
    /// Reads `until=24h`, `id=…`, `type=…`, and `inuse`, `shared`, `private`, alone or with `=true` and `=false`.
    ///
    /// # Errors
    /// The text that is none of them.
    pub fn parse(texts: &[String], now: i64) -> Result<Filters, String> {
        let mut filters = Filters::default();
        for text in texts {
            filters.add(text, now).ok_or_else(|| text.clone())?;
        }
        Ok(filters)
    }

    fn add(&mut self, text: &str, now: i64) -> Option<()> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let truth = || match value {
            None | Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            _ => None,
        };
        match key {
            "until" | "unused-for" => {
                let until = moment(value?, now)?;
                self.until = Some(self.until.map_or(until, |before| before.min(until)));
            }
            "id" => self.id = Some(value?.trim_end_matches('*').to_string()),
            "type" => {
                let known = [Kind::Layer, Kind::Cache, Kind::Hashes, Kind::Url];
                let kind = known.iter().find(|kind| Some(kind.name()) == value)?;
                self.kind = Some(kind.name().into());
            }
            "inuse" => self.in_use = Some(truth()?),
            "shared" => self.shared = Some(truth()?),
            "private" => self.shared = Some(!truth()?),
            _ => return None,
        }
        Some(())
    }

    /// Is it chosen?
    pub fn accept(&self, one: &Kept) -> bool {
        self.until.is_none_or(|until| one.used < until)
            && self.id.as_ref().is_none_or(|id| one.id.starts_with(id.as_str()))
            && self.kind.as_ref().is_none_or(|kind| one.kind.name() == kind)
            && self.in_use.is_none_or(|in_use| one.in_use == in_use)
            && self.shared.is_none_or(|shared| one.shared == shared)
    }
}

/// What a prune did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The ids of what is gone, the longest unused first.
    pub gone: Vec<String>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
    /// Caches that are another user's in part: a RUN wrote to them under another id.
    pub kept: Vec<PathBuf>,
}

impl Prune {
    /// Removes what is to go, and what nothing needs any more.
    ///
    /// # Errors
    /// Something cannot be looked at or removed.
    pub fn carry_out(&self, store: &Store) -> Result<Pruned, Error> {
        remove_orphans(store)?;
        steps::forget_unusable(store)?;
        urls::remove_orphans(store)?;
        let mut pruned = Pruned::default();
        for one in self.chosen(usage::kept(store)?) {
            let gone = match &one.place {
                Place::Step(key, _) => {
                    steps::forget(store, key)?;
                    true
                }
                Place::File(path) => {
                    pruned.bytes += write::remove(path)?;
                    true
                }
                Place::Url(path) => {
                    pruned.bytes += urls::remove(path)?;
                    true
                }
                Place::Directory(directory) => match remove_cache(store, directory)? {
                    Removed::Yes => {
                        pruned.bytes += one.bytes;
                        true
                    }
                    Removed::InUse => false,
                    Removed::Foreign => {
                        pruned.kept.push(directory.clone());
                        false
                    }
                },
            };
            if gone {
                pruned.gone.push(one.id);
            }
        }
        pruned.bytes += prune::unneeded(store)?;
        Ok(pruned)
    }

    /// What goes, the longest unused first.
    fn chosen(&self, mut kept: Vec<Kept>) -> Vec<Kept> {
        let mut going = Vec::new();
        for at in (0..kept.len()).rev() {
            // What images have is on the disk because of them.
            let own = |total: Total| total.all - total.shared;
            if self.keep > 0 && own(Total::of(&kept)) <= self.keep {
                break;
            }
            let goes = kept
                .get(at)
                .is_some_and(|one| !one.in_use && (self.all || !one.shared) && self.filters.accept(one));
            if goes {
                going.push(kept.remove(at));
            }
        }
        going
    }
}

/// What became of a cache.
enum Removed {
    Yes,
    InUse,
    Foreign,
}

fn remove_cache(store: &Store, directory: &Path) -> Result<Removed, Error> {
    // Every step that uses it holds this, however it shares the cache.
    let used = directory.with_extension("use");
    let lock = match Lock::attempt_existing(&used, Mode::Exclusive)? {
        Attempt::Held => return Ok(Removed::InUse),
        Attempt::Gone => None,
        Attempt::Taken(lock) => Some(lock),
    };
    match owner::remove(store, directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Removed::Foreign),
        Err(error) => return Err(io_error("remove", directory)(error)),
    }
    if lock.is_some() {
        // Nobody has the other lock without this one. What stays is made use of again.
        let _ = fs::remove_file(directory.with_extension("lock"));
        let _ = fs::remove_file(&used);
    }
    Ok(Removed::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    /// One of 10 bytes that stands on others; `layers` are told by a byte each.
    fn layer(layers: &[u8], used: i64) -> Kept {
        let stack: Vec<Digest> = layers.iter().map(|byte| Digest([*byte; 32])).collect();
        Kept {
            id: format!("{layers:?}"),
            kind: Kind::Layer,
            text: String::new(),
            parent: None,
            bytes: 10,
            made: None,
            used,
            shared: false,
            in_use: false,
            place: Place::Step(Digest([0; 32]), stack),
        }
    }

    fn chosen(prune: &Prune, kept: &[Kept]) -> Vec<String> {
        let going = prune.chosen(kept.to_vec()).into_iter();
        going.map(|one| one.id).collect()
    }

    fn filtered(texts: &[&str]) -> Prune {
        let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
        Prune {
            filters: Filters::parse(&texts, 1000).unwrap(),
            ..Prune::default()
        }
    }

    #[test]
    fn the_longest_unused_goes_first_until_the_rest_is_small_enough() {
        let kept = [layer(&[1], 900), layer(&[1, 2], 900), layer(&[3], 800)];
        let keep = |keep| {
            let prune = Prune {
                keep,
                ..Prune::default()
            };
            chosen(&prune, &kept)
        };
        assert_eq!(keep(0), ["[3]", "[1, 2]", "[1]"]);
        assert_eq!(keep(30), [""; 0]);
        assert_eq!(keep(29), ["[3]"]);
        assert_eq!(keep(10), ["[3]", "[1, 2]"]);
    }

    #[test]
    fn what_is_used_and_what_images_have_stays() {
        let mut kept = [layer(&[1], 900), layer(&[2], 800), layer(&[3], 700)];
        kept[0].in_use = true;
        kept[1].shared = true;
        assert_eq!(chosen(&Prune::default(), &kept), ["[3]"]);
        let all = Prune {
            all: true,
            ..Prune::default()
        };
        assert_eq!(chosen(&all, &kept), ["[3]", "[2]"]);
        let total = Total::of(&kept);
        assert_eq!((total.all, total.shared, total.reclaimable), (30, 10, 20));
    }

    #[test]
    fn a_layer_that_two_steps_made_counts_once() {
        let kept = [layer(&[1, 9], 1), layer(&[2, 9], 2)];
        assert_eq!(Total::of(&kept).all, 10);
    }

    #[test]
    fn filters_are_buildkits() {
        let kept = [layer(&[1], 900), layer(&[2], 800)];
        assert_eq!(chosen(&filtered(&["until=150s"]), &kept), ["[2]"]);
        assert_eq!(chosen(&filtered(&["until=50s"]), &kept), ["[2]", "[1]"]);
        assert_eq!(chosen(&filtered(&["unused-for=150s", "id=[1"]), &kept), [""; 0]);
        assert_eq!(chosen(&filtered(&["id=[1"]), &kept), ["[1]"]);
        assert_eq!(chosen(&filtered(&["type=regular", "private"]), &kept).len(), 2);
        assert_eq!(chosen(&filtered(&["type=exec.cachemount"]), &kept), [""; 0]);
        assert_eq!(chosen(&filtered(&["inuse"]), &kept), [""; 0]);
        assert_eq!(chosen(&filtered(&["shared=false"]), &kept).len(), 2);
        for wrong in [
            "until",
            "until=soon",
            "type=frontend",
            "shared=maybe",
            "colour=red",
        ] {
            assert_eq!(Filters::parse(&[wrong.into()], 0), Err(wrong.into()));
        }
    }
}
