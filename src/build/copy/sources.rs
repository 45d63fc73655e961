//! Which files and directories does a source of a COPY mean? A path, a pattern, or, with `--parents`, one with `**`.

use fuse_overlay::attr::Kind;

use super::{CopyError, From, Item, Order, Wildcards, join, last, shown};
use crate::build::patterns::glob;
use crate::build::patterns::ignore::Ignore;
use crate::build::source::{Entry, Links, Source};

/// What a source of the instruction leads to.
pub(super) struct Named {
    /// The path as it was given, its patterns resolved.
    pub(super) path: Vec<u8>,
    /// Where it lies.
    pub(super) at: Vec<u8>,
    pub(super) entry: Entry,
}

/// The part of a `--parents` pattern from its `**` on: as BuildKit has it, any number of directories.
struct Deep {
    /// What is "left out" is what is wanted: the patterns are those of `.dockerignore`.
    wanted: Ignore,
    skips: usize,
}

impl Order {
    /// The files and directories that a source of the instruction means. `skips`: its names before `/./`, if parents are
    /// copied.
    pub(super) fn expand(
        &self,
        source: &dyn Source,
        pattern: &[u8],
        skips: Option<usize>,
        found: &mut Vec<Named>,
    ) -> Result<(), CopyError> {
        if self.wildcards == Wildcards::Characters || !glob::has_wildcard(pattern) {
            let visible = self.visible(source, pattern)?;
            let named = visible.ok_or_else(|| CopyError::NotFound(shown(pattern)))?;
            if named.entry.kind == Kind::Socket {
                return Err(CopyError::Socket(shown(pattern)));
            }
            // Without parents, what is excluded of a directory is told from its top on.
            let is_top = named.entry.kind == Kind::Directory && skips.is_none();
            found.extend(Some(named).filter(|named| is_top || !self.leaves_out(named, skips)));
            return Ok(());
        }
        let mut places = vec![Vec::new()];
        let parts: Vec<&[u8]> = pattern.split(|byte| *byte == b'/').collect();
        for (number, part) in parts.iter().enumerate() {
            // Else it is a `*`, as in Go's path.Match.
            if part.windows(2).any(|two| two == b"**")
                && let Some(skips) = skips.filter(|skips| number >= *skips)
            {
                let rest = parts.get(number..).unwrap_or_default().join(&b'/');
                let wanted = Ignore::new([&rest]).map_err(|_| CopyError::Pattern(shown(&rest)))?;
                let deep = Deep { wanted, skips };
                return places
                    .iter()
                    .try_for_each(|place| self.below(source, place, &deep, found));
            }
            let mut next = Vec::new();
            for place in &places {
                self.matching(source, place, part, &mut next)?;
            }
            places = next;
        }
        for place in places {
            let named = self.visible(source, &place)?;
            found.extend(named.filter(|named| !self.leaves_out(named, skips)));
        }
        Ok(())
    }

    /// Does `--exclude` name it, as it would be copied?
    fn leaves_out(&self, named: &Named, skips: Option<usize>) -> bool {
        let to = match skips {
            Some(skips) => {
                let names: Vec<&[u8]> = named.path.split(|byte| *byte == b'/').collect();
                names.get(skips..).unwrap_or_default().join(&b'/')
            }
            None => last(&named.path).to_vec(),
        };
        match named.entry.kind {
            Kind::Directory => self.exclude.excludes_all(&to),
            _ => self.exclude.excludes(&to),
        }
    }

    /// What is below a directory, at any depth, and matches the rest of a pattern.
    fn below(
        &self,
        source: &dyn Source,
        place: &[u8],
        deep: &Deep,
        found: &mut Vec<Named>,
    ) -> Result<(), CopyError> {
        let top = self.look(source, place, Links::Follow)?;
        if top.is_none_or(|top| top.kind != Kind::Directory) {
            return Ok(());
        }
        let at = source
            .real(place)
            .map_err(|error| CopyError::Read(shown(place), error))?;
        // As it is copied: so --exclude has it.
        let names: Vec<&[u8]> = place.split(|byte| *byte == b'/').collect();
        let (skipped, kept) = names.split_at_checked(deep.skips).unwrap_or((&names, &[]));
        let top = kept.join(&b'/');
        let mut all = Vec::new();
        self.directory(source, &at, top.clone(), 0, &mut all)?;
        // A directory that matches brings all that is in it.
        let mut taken: Option<Vec<u8>> = None;
        for Item { from, to, entry, .. } in all {
            let within = |above: &Vec<u8>| {
                to.strip_prefix(above.as_slice())
                    .is_some_and(|to| to.starts_with(b"/"))
            };
            let rest = to.get(top.len()..).unwrap_or_default();
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            if let From::Path(at) = from
                && !taken.as_ref().is_some_and(within)
                && deep.wanted.excludes(rest)
            {
                let path = join(&skipped.join(&b'/'), &to);
                found.push(Named { path, at, entry });
                taken = Some(to);
            }
        }
        Ok(())
    }

    /// What a path leads to, if the source shows it. A hidden directory is there for what was excepted below it.
    fn visible(&self, source: &dyn Source, path: &[u8]) -> Result<Option<Named>, CopyError> {
        let Some(entry) = self.look(source, path, Links::Follow)? else {
            return Ok(None);
        };
        let at = source
            .real(path)
            .map_err(|error| CopyError::Read(shown(path), error))?;
        let path = path.to_vec();
        if !source.is_hidden(&at) {
            return Ok(Some(Named { path, at, entry }));
        }
        if entry.kind != Kind::Directory || source.hides_all(&at) {
            return Ok(None);
        }
        let mut below = Vec::new();
        self.directory(source, &at, Vec::new(), 0, &mut below)?;
        Ok((!below.is_empty()).then_some(Named { path, at, entry }))
    }

    fn matching(
        &self,
        source: &dyn Source,
        directory: &[u8],
        part: &[u8],
        next: &mut Vec<Vec<u8>>,
    ) -> Result<(), CopyError> {
        let is_directory = |entry: &Entry| entry.kind == Kind::Directory;
        if !self
            .look(source, directory, Links::Follow)?
            .as_ref()
            .is_some_and(is_directory)
        {
            return Ok(());
        }
        let names = source.names(directory);
        for name in names.map_err(|error| CopyError::Read(shown(directory), error))? {
            let matches = glob::matches(part, &name);
            if matches.map_err(|_| CopyError::Pattern(shown(part)))? {
                next.push(join(directory, &name));
            }
        }
        Ok(())
    }
}
