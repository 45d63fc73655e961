//! Bytes of files: read, write, fallocate, fsync.
//!
//! What a write brings goes into the data file before its record. Pages that the file already has there are written in
//! place; others are new pages, and of a page that is only partly written the rest is copied from below. Should the
//! operation fail then, the new pages are free again and the file is as it was, but for bytes written in place.
//!
//! While somebody looks at the layer ([`crate::upper::data::Data::alone`]) nothing is written in place: the file gets new pages
//! there, too, with the rest of what the old ones have. Whether somebody does is asked once for an operation, and holds until its
//! record is written: so they see all of it or nothing.

use std::ops::Range;

use nix::errno::Errno;

use super::attr::{CAPABILITY, without_set_id};
use super::{Allocate, Caller, Durable, Space, Tree, held, now};
use crate::attr::{Ino, Kind, MAX_FILE};
use crate::error::{Error, Result};
use crate::index::NodeId;
use crate::upper::Locked;
use crate::upper::content::{Content, Run, Source};
use crate::upper::data::Alone;
use crate::upper::inode::{Body, Inode, State};
use crate::upper::journal::format::{Change, Meta, Operation, PAGE};
use crate::upper::journal::log::Room;

/// Bytes copied at a time from below.
const COPY: u64 = 64 * 1024;

/// Pages of a file that were given a place in the data file, and are not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Placed<'a> {
    /// Page of the file, and its run.
    runs: Vec<(u64, Run)>,
    /// May bytes change where they are? `None`: not asked yet; `Some(None)`: no, since somebody looks.
    alone: Option<Option<Alone<'a>>>,
}

/// Whose word is a file's time of change?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    /// It is the present.
    Present,
    /// The kernel says it, before or after.
    Kernels,
}

impl Tree {
    /// Reads at a byte offset into `out`; fewer bytes only at the end of the file.
    pub fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        let Some(inode) = self.known(ino)? else {
            let node = self.below.node(ino)?;
            let attr = self.below.view().attr(node)?;
            match attr.kind {
                Kind::Regular => {}
                Kind::Directory => return Err(Error(Errno::EISDIR)),
                _ => return Err(Error(Errno::EINVAL)),
            }
            let out = until_end(out, offset, attr.size);
            self.below.read(node, offset, out)?;
            return Ok(out.len());
        };
        let (length, below) = {
            // Held until all is read that lies in the data file: no page of it is freed meanwhile, and used for another file.
            let state = inode.read();
            let out = until_end(out, offset, state.size);
            let length = out.len();
            (length, self.read_own(state.content()?, offset, out)?)
        };
        // What lies below does not change, so these are the bytes of that moment. Their disk may hang; the inode need not.
        for (node, offset, piece) in below {
            self.below.read(node, offset, piece)?;
        }
        Ok(length)
    }

    /// Reads of a file's content what does not lie below; zeros where nothing is. Gives the rest: node, offset, and where to.
    fn read_own<'o>(
        &self,
        content: &Content,
        mut offset: u64,
        mut out: &'o mut [u8],
    ) -> Result<Vec<(NodeId, u64, &'o mut [u8])>> {
        let mut below = Vec::new();
        while !out.is_empty() {
            let (source, length) = content.locate(offset, offset + out.len() as u64);
            let (piece, rest) = out.split_at_mut(out.len().min(length as usize));
            let next = offset + piece.len() as u64;
            match source {
                Source::Data(at) => self.upper.data.read(piece, at)?,
                Source::Below(node) => below.push((node, offset, piece)),
                Source::Zeros => piece.fill(0),
            }
            (offset, out) = (next, rest);
        }
        Ok(below)
    }

    /// Writes all of `data` at a byte offset. `kill_priv` as in [`super::SetAttr::kill_priv`].
    pub fn write(&self, caller: &Caller, ino: Ino, offset: u64, data: &[u8], kill_priv: bool) -> Result<()> {
        self.write_at(caller, ino, offset, data, (kill_priv, Times::Present))
    }

    /// The same for pages that the kernel has kept for a while. It keeps the times of their file, too, and says them itself:
    /// the present would be too late, and might come after.
    pub fn write_back(
        &self,
        caller: &Caller,
        ino: Ino,
        offset: u64,
        data: &[u8],
        kill_priv: bool,
    ) -> Result<()> {
        self.write_at(caller, ino, offset, data, (kill_priv, Times::Kernels))
    }

    fn write_at(
        &self,
        caller: &Caller,
        ino: Ino,
        offset: u64,
        data: &[u8],
        how: (bool, Times),
    ) -> Result<()> {
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= MAX_FILE);
        let end = end.ok_or(Error(Errno::EFBIG))?;
        self.upper.with_space_for_bytes(|| {
            let inode = self.inode(ino)?;
            let mut locked = Locked::new(&[&inode]);
            let mut placed = Placed::default();
            let done = self.try_write(caller, &inode, &mut locked, offset..end, data, how, &mut placed);
            self.settle(&locked, ino, offset..end, placed, done)
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn try_write<'a>(
        &'a self,
        caller: &Caller,
        inode: &Inode,
        locked: &mut Locked<'_>,
        range: Range<u64>,
        data: &[u8],
        (kill_priv, times): (bool, Times),
        placed: &mut Placed<'a>,
    ) -> Result<()> {
        let ino = inode.ino;
        let state = held(locked.get_mut(ino))?;
        let size = state.size;
        state.content()?;
        if data.is_empty() {
            return Ok(());
        }
        let mut whole = std::borrow::Cow::Borrowed(data);
        let mut begin = range.start;
        if size < range.start && !self.zero_tail(state, range.start, placed)? {
            let rest = rest_of_page(size, range.start);
            if rest == range.start {
                // Both are in one page, which gets another place once.
                let zeros = vec![0; (rest - size) as usize];
                (whole, begin) = ([zeros.as_slice(), data].concat().into(), size);
            } else {
                self.write_content(state, size, &vec![0; (rest - size) as usize], placed)?;
            }
        }
        let mut changes = if kill_priv {
            killed(caller, ino, state)
        } else {
            Vec::new()
        };
        self.write_content(state, begin, &whole, placed)?;
        changes.extend(placed.changes(ino));
        let time = match times {
            Times::Present => Some(now()),
            Times::Kernels => None,
        };
        let time = time.filter(|time| state.meta.mtime != *time || state.meta.ctime != *time);
        // At most the time is to be recorded.
        let only_time = changes.is_empty() && range.end <= size;
        let size = range.end.max(size);
        match time {
            Some(time) => changes.push(Change::Wrote { ino, size, time }),
            None if only_time => return Ok(()),
            None if size > state.size => changes.push(Change::Resize { ino, size }),
            None => {}
        }
        let room = match placed.is_empty() {
            true => Room::InPlace,
            false => Room::Ordinary,
        };
        let done = self
            .upper
            .commit(Operation::Write, caller.unique, &changes, room, locked);
        match done {
            // The bytes are where they belong; who wrote them was told so, and they are not lost for the sake of a time.
            Err(Error(Errno::ENOSPC | Errno::EDQUOT)) if only_time => Ok(()),
            done => done,
        }
    }

    /// After a failure: frees the new pages, and makes zero again what was written in place behind the file's end.
    fn settle(
        &self,
        locked: &Locked<'_>,
        ino: Ino,
        range: Range<u64>,
        mut placed: Placed<'_>,
        done: Result<()>,
    ) -> Result<()> {
        if done.is_ok() {
            return done;
        }
        let alone = placed.alone.take().flatten();
        self.discard(placed);
        let state = held(locked.get(ino))?;
        // Else nothing was written in place.
        if let (Ok(content), Some(_alone)) = (state.content(), alone) {
            let mut at = state.size.max(range.start);
            while at < range.end {
                let (source, length) = content.locate(at, range.end);
                if let Source::Data(place) = source {
                    self.upper.data.write_zeros(place, length)?;
                }
                at += length;
            }
        }
        done
    }

    /// Frees pages that no record names.
    pub(super) fn discard(&self, placed: Placed<'_>) {
        self.upper
            .data
            .discard(placed.runs.into_iter().map(|(_, run)| run));
    }

    /// Writes bytes where the file has pages, and places pages where it has none.
    fn write_content<'a>(
        &'a self,
        state: &mut State,
        offset: u64,
        data: &[u8],
        placed: &mut Placed<'a>,
    ) -> Result<()> {
        let end = offset + data.len() as u64;
        let mut at = offset;
        while at < end {
            let (source, length) = state.content()?.locate(at, end);
            let next = match source {
                Source::Data(place) if self.may_change(placed) => {
                    self.upper
                        .data
                        .write(part(data, offset, at, at + length), place)?;
                    at + length
                }
                kind => {
                    let page = at / PAGE;
                    let want = match kind {
                        Source::Data(_) => (at + length).div_ceil(PAGE) - page,
                        _ => state.content()?.gap(page, end.div_ceil(PAGE) - page),
                    };
                    let run = self.place_pages(state, page, want, placed)?;
                    let next = ((page + run.end - run.start) * PAGE).min(end);
                    self.write_fresh(state, page, &run, at, part(data, offset, at, next))?;
                    next
                }
            };
            at = next;
        }
        Ok(())
    }

    /// May bytes change where they are? The answer stays until the operation is over.
    fn may_change<'a>(&'a self, placed: &mut Placed<'a>) -> bool {
        placed
            .alone
            .get_or_insert_with(|| self.upper.data.alone())
            .is_some()
    }

    /// Finds room for up to `want` pages of a file from `page` on.
    fn place_pages<'a>(
        &'a self,
        state: &mut State,
        page: u64,
        want: u64,
        placed: &mut Placed<'a>,
    ) -> Result<Run> {
        let content = state.content()?;
        let pages = content.pages()
            + placed
                .runs
                .iter()
                .map(|(_, run)| run.end - run.start)
                .sum::<u64>();
        let after = placed.end_before(page).or_else(|| content.follows(page));
        let content = state.content_mut()?;
        let run = self.upper.data.take(want, pages, after, content.reserve())?;
        placed.runs.push((page, run.clone()));
        Ok(run)
    }

    /// Writes bytes at `at` into new pages, and around them what the file shows there now. New pages are zero.
    fn write_fresh(&self, state: &State, page: u64, run: &Run, at: u64, bytes: &[u8]) -> Result<()> {
        let (start, end) = (page * PAGE, (page + run.end - run.start) * PAGE);
        let place = |offset: u64| run.start * PAGE + (offset - start);
        self.copy_below(state, start, at, place(start))?;
        self.upper.data.write(bytes, place(at))?;
        let written = at + bytes.len() as u64;
        self.copy_below(state, written, end, place(written))
    }

    /// Copies the bytes `start..end` of a file that lie in the image, or in pages that are replaced, to a place in the data file.
    fn copy_below(&self, state: &State, mut start: u64, end: u64, place: u64) -> Result<()> {
        let content = state.content()?;
        let end = end.min(state.size);
        let first = start;
        while start < end {
            let (source, length) = content.locate(start, end);
            let length = match source {
                Source::Zeros => length,
                Source::Below(_) | Source::Data(_) => {
                    let length = length.min(COPY);
                    let mut buffer = vec![0; length as usize];
                    match source {
                        Source::Below(node) => self.below.read(node, start, &mut buffer)?,
                        Source::Data(at) => self.upper.data.read(&mut buffer, at)?,
                        Source::Zeros => {}
                    }
                    self.upper.data.write(&buffer, place + (start - first))?;
                    length
                }
            };
            start += length;
        }
        Ok(())
    }

    /// Zeroes what lies in the data file between the file's end and `upto`: the file grows over it. Besides the rest of
    /// its last page that is what was reserved behind its end, where a write may have begun that was never recorded.
    ///
    /// `false`: somebody looks, who may see more of the last page than the file still shows, so that is left as it is, up to
    /// [`rest_of_page`]. What is reserved nobody sees: cutting a file frees whole pages.
    fn zero_tail<'a>(&'a self, state: &State, upto: u64, placed: &mut Placed<'a>) -> Result<bool> {
        let (content, size) = (state.content()?, state.size);
        let has_bytes = !size.is_multiple_of(PAGE) && matches!(content.locate(size, upto).0, Source::Data(_));
        let whole = !has_bytes || self.may_change(placed);
        let mut at = if whole { size } else { rest_of_page(size, upto) };
        while at < upto {
            let (source, length) = content.locate(at, upto);
            if let Source::Data(place) = source {
                self.upper.data.write_zeros(place, length)?;
            }
            at += length;
        }
        Ok(whole)
    }

    /// The same for a file that gets longer and nothing else: its last page may have to be another.
    pub(super) fn lengthen<'a>(
        &'a self,
        state: &mut State,
        upto: u64,
        placed: &mut Placed<'a>,
    ) -> Result<()> {
        let size = state.size;
        if size < upto && !self.zero_tail(state, upto, placed)? {
            let zeros = vec![0; (rest_of_page(size, upto) - size) as usize];
            self.write_content(state, size, &zeros, placed)?;
        }
        Ok(())
    }

    /// Reserves or frees space. Offsets and lengths in bytes.
    pub fn fallocate(
        &self,
        caller: &Caller,
        ino: Ino,
        how: Allocate,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        if length == 0 {
            return Err(Error(Errno::EINVAL));
        }
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= MAX_FILE)
            .ok_or(Error(Errno::EFBIG))?;
        self.upper.with_space_for_bytes(|| {
            let inode = self.inode(ino)?;
            let mut locked = Locked::new(&[&inode]);
            let mut placed = Placed::default();
            let done = self.try_allocate(caller, &mut locked, ino, how, offset..end, &mut placed);
            self.settle(&locked, ino, offset..end, placed, done)
        })
    }

    fn try_allocate<'a>(
        &'a self,
        caller: &Caller,
        locked: &mut Locked<'_>,
        ino: Ino,
        how: Allocate,
        range: Range<u64>,
        placed: &mut Placed<'a>,
    ) -> Result<()> {
        let state = held(locked.get_mut(ino))?;
        state.content()?;
        let grows = matches!(how, Allocate::Grow | Allocate::ZeroGrow);
        let size = if grows {
            range.end.max(state.size)
        } else {
            state.size
        };
        let mut changes = self.allocate(state, ino, how, range, placed)?;
        changes.extend(placed.changes(ino));
        changes.push(Change::Wrote {
            ino,
            size,
            time: now(),
        });
        let room = if how == Allocate::PunchHole {
            Room::Reserve
        } else {
            Room::Ordinary
        };
        self.upper
            .commit(Operation::Allocate, caller.unique, &changes, room, locked)
    }

    /// Brings the data file where `how` wants it; the changes say the rest.
    fn allocate<'a>(
        &'a self,
        state: &mut State,
        ino: Ino,
        how: Allocate,
        range: Range<u64>,
        placed: &mut Placed<'a>,
    ) -> Result<Vec<Change<'static>>> {
        let size = state.size;
        if matches!(how, Allocate::Grow | Allocate::ZeroGrow) {
            self.lengthen(state, range.end, placed)?;
        }
        match how {
            Allocate::Grow | Allocate::KeepSize => {
                self.reserve(state, range, placed)?;
                Ok(Vec::new())
            }
            Allocate::PunchHole => {
                // The bytes behind the file's end in its last page are nobody's, so the page can go as a whole.
                let end = if range.end >= size {
                    range.end.next_multiple_of(PAGE)
                } else {
                    range.end
                };
                let whole = self.zero_edges(state, range.start..end, placed)?;
                let count = whole.end - whole.start;
                Ok(Vec::from_iter((count > 0).then_some(Change::Hole {
                    ino,
                    page: whole.start,
                    count,
                })))
            }
            Allocate::ZeroGrow | Allocate::ZeroKeepSize => {
                let whole = self.zero_edges(state, range, placed)?;
                let mut page = whole.start;
                while page < whole.end {
                    self.expect_room(whole.end - page)?;
                    let run = self.place_pages(state, page, whole.end - page, placed)?;
                    self.upper.data.allocate(&run)?;
                    page += run.end - run.start;
                }
                Ok(Vec::new())
            }
        }
    }

    /// Gives pages to all of a range that has none, with what it shows now.
    fn reserve<'a>(&'a self, state: &mut State, range: Range<u64>, placed: &mut Placed<'a>) -> Result<()> {
        let (mut page, last) = (range.start / PAGE, range.end.div_ceil(PAGE));
        while page < last {
            let want = state.content()?.gap(page, last - page);
            if want == 0 {
                let (_, length) = state.content()?.locate(page * PAGE, last * PAGE);
                page += length / PAGE;
                continue;
            }
            self.expect_room(want)?;
            let run = self.place_pages(state, page, want, placed)?;
            self.upper.data.allocate(&run)?;
            let count = run.end - run.start;
            self.copy_below(state, page * PAGE, (page + count) * PAGE, run.start * PAGE)?;
            page += count;
        }
        Ok(())
    }

    /// ENOSPC if the disk has less room than `pages`: asked before so many are given out that the data file's end would
    /// lie where the host knows no offsets.
    fn expect_room(&self, pages: u64) -> Result<()> {
        let [_, _, available] = self.upper.space()?;
        if pages > available {
            return Err(Error(Errno::ENOSPC));
        }
        Ok(())
    }

    /// Writes zeros over the parts of a range that are no whole pages, and gives the whole pages between.
    fn zero_edges<'a>(
        &'a self,
        state: &mut State,
        range: Range<u64>,
        placed: &mut Placed<'a>,
    ) -> Result<Run> {
        let (first, last) = (range.start.div_ceil(PAGE), range.end / PAGE);
        let zeros = [0; PAGE as usize];
        let edges = if first > last {
            [range.clone(), range.end..range.end]
        } else {
            [range.start..first * PAGE, last * PAGE..range.end]
        };
        for edge in edges {
            let shown = !edge.is_empty() && state.content()?.locate(edge.start, edge.end).0 != Source::Zeros;
            if shown {
                let zeros = zeros.get(..(edge.end - edge.start) as usize).unwrap_or_default();
                self.write_content(state, edge.start, zeros, placed)?;
            }
        }
        Ok(first..last.max(first))
    }

    /// Makes everything acknowledged so far durable: this file's data and all earlier metadata.
    pub fn fsync(&self, ino: Ino) -> Result<Durable> {
        self.getattr(ino)?;
        self.upper.sync()
    }

    /// The same for all files: what the 5 s timer and unmounting call. Also gives freed space back to the disk.
    pub fn sync(&self) -> Result<Durable> {
        let durable = self.upper.sync()?;
        self.upper.reclaim();
        Ok(durable)
    }

    /// Is the journal so much longer than what it has to say that [`Tree::checkpoint`] pays?
    pub fn checkpoint_is_due(&self) -> bool {
        self.upper.checkpoint_is_due()
    }

    /// Makes the journal as short as what it has to say, while other operations go on. `go_on` is asked in between, and may
    /// end it early; nothing is lost then.
    ///
    /// # Errors
    /// The disk's. The journal is as good as before.
    pub fn checkpoint(&self, go_on: &dyn Fn() -> bool) -> Result<()> {
        self.upper.checkpoint(go_on, &|ino| self.below.copy_up(ino))
    }

    /// Is there so much that would have to be read when the layer is opened again that [`Tree::list`] pays?
    pub fn list_is_due(&self) -> bool {
        self.upper.list_is_due()
    }

    /// Makes a checkpoint, and a list of where each inode stands in it: the layer is then opened without reading all. For its
    /// end, when nothing else happens: false if something did, hence no list was made.
    ///
    /// # Errors
    /// The disk's. The layer is as good as before, and opened by reading all.
    pub fn list(&self) -> Result<bool> {
        self.upper.list(&|ino| self.below.copy_up(ino))
    }

    /// What `statfs` tells.
    pub fn statfs(&self) -> Result<Space> {
        let blocks = self.upper.space()?;
        let (named, most) = self.upper.inodes();
        let image = u64::from(self.below.view().node_count());
        // Without a limit inodes end only with the disk, which holds one for each block at most.
        let free = most.map_or(blocks.get(2).copied().unwrap_or(0), |most| {
            most.saturating_sub(named)
        });
        Ok(Space {
            blocks,
            inodes: [image + named + free, free],
        })
    }
}

impl Placed<'_> {
    /// Has no new page been taken?
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn changes(&self, ino: Ino) -> impl Iterator<Item = Change<'static>> {
        self.runs.iter().map(move |(page, run)| Change::Map {
            ino,
            page: *page,
            count: run.end - run.start,
            at: run.start,
        })
    }

    /// The data page behind the file's page before `page`, if that is among these.
    fn end_before(&self, page: u64) -> Option<u64> {
        let (first, run) = self.runs.last()?;
        (first + (run.end - run.start) == page).then_some(run.end)
    }
}

impl State {
    fn content_mut(&mut self) -> Result<&mut Content> {
        match &mut self.body {
            Body::Regular(content) => Ok(content),
            _ => Err(Error(Errno::EINVAL)),
        }
    }
}

/// The changes that take set-id bits and capabilities away, if there are any.
fn killed(caller: &Caller, ino: Ino, state: &State) -> Vec<Change<'static>> {
    let mut changes = Vec::new();
    let perm = without_set_id(caller, &state.meta, state.kind());
    if perm != state.meta.perm {
        changes.push(Change::Meta {
            ino,
            meta: Meta { perm, ..state.meta },
        });
    }
    if state.xattrs.contains_key(CAPABILITY) {
        changes.push(Change::Xattr {
            ino,
            name: CAPABILITY,
            value: None,
        });
    }
    changes
}

/// Where the page ends that holds the file's end, or the file before that.
fn rest_of_page(size: u64, upto: u64) -> u64 {
    size.next_multiple_of(PAGE).min(upto)
}

/// The front of `out` that a file of `size` bytes fills from `offset` on.
fn until_end(out: &mut [u8], offset: u64, size: u64) -> &mut [u8] {
    let length = usize::try_from(size.saturating_sub(offset))
        .unwrap_or(usize::MAX)
        .min(out.len());
    out.split_at_mut(length).0
}

/// The bytes `from..to` of a file, of `data`, which begins at `offset`.
fn part(data: &[u8], offset: u64, from: u64, to: u64) -> &[u8] {
    data.get((from - offset) as usize..(to - offset) as usize)
        .unwrap_or_default()
}
