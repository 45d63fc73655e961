//! Where are a file's bytes? The map of an upper file: pages in the data file, holes, and what shows through below.

use std::ops::Range;

use super::journal::format::PAGE;
use super::pieces::{Mapped, Pieces};
use crate::index::NodeId;

/// Where a piece of a file lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// In the data file, at this byte offset.
    Data(u64),
    /// In the image, at the same offset of this node's file.
    Below(NodeId),
    /// Nowhere: it reads as zeros.
    Zeros,
}

/// Pages of the data file: `start..end`.
pub(crate) type Run = Range<u64>;

/// A regular file's content. Pages that the map does not hold show the image's file up to `below_end`, then zeros.
///
/// The bytes between the file's end and the end of its last page may be anything: whoever makes the file longer zeroes
/// them first. So cutting a file changes no data, and a cut that was never acknowledged has destroyed none.
#[derive(Debug, Default)]
pub(crate) struct Content(Has);

/// What a file has, in as little memory as it can be.
#[derive(Debug, Default)]
enum Has {
    /// Nothing: it was not written.
    #[default]
    Nothing,
    /// The image's file.
    Below(Box<Below>),
    /// It was written.
    Own(Box<Own>),
}

/// The image's file, as far as it shows.
#[derive(Clone, Copy, Debug)]
struct Below {
    node: NodeId,
    /// The byte offset where it ends.
    end: u64,
    /// Blocks of 512 bytes that all of it takes.
    blocks: u64,
}

/// What a file has in the data file, and what of the image's shows around that.
#[derive(Debug, Default)]
struct Own {
    below: Option<Below>,
    /// Neighbours that continue each other are one.
    map: Pieces,
    /// Pages in the data file.
    pages: u64,
    /// Pages of the data file set aside for the file's growth: sequential writes stay in one run. Not recorded.
    reserve: Option<Run>,
}

impl Content {
    /// The content of an image's file of `size` bytes, which takes so many blocks of 512.
    pub(crate) fn over(node: NodeId, size: u64, blocks: u64) -> Content {
        let end = size;
        Content(Has::Below(Box::new(Below { node, end, blocks })))
    }

    /// Does it show what `image`, an image's file without changes, shows, as far as both reach?
    pub(crate) fn shows(&self, image: &Content) -> bool {
        self.own().is_none_or(|own| own.map.is_empty()) && self.below_end() == image.below_end()
    }

    /// Pages that it has in the data file.
    pub(crate) fn pages(&self) -> u64 {
        self.own().map_or(0, |own| own.pages)
    }

    /// Blocks of 512 bytes that it takes, with what shows of the image's file.
    pub(crate) fn blocks(&self) -> u64 {
        let below = |below: &Below| below.blocks.min(below.end.div_ceil(512));
        self.below().map_or(0, below) + self.pages() * (PAGE / 512)
    }

    /// What is set aside for its growth.
    pub(crate) fn reserve(&mut self) -> &mut Option<Run> {
        &mut self.own_mut().reserve
    }

    /// Takes that away.
    pub(crate) fn take_reserve(&mut self) -> Option<Run> {
        match &mut self.0 {
            Has::Own(own) => own.reserve.take(),
            _ => None,
        }
    }

    fn below(&self) -> Option<&Below> {
        match &self.0 {
            Has::Nothing => None,
            Has::Below(below) => Some(below),
            Has::Own(own) => own.below.as_ref(),
        }
    }

    fn own(&self) -> Option<&Own> {
        match &self.0 {
            Has::Own(own) => Some(own),
            _ => None,
        }
    }

    fn own_mut(&mut self) -> &mut Own {
        if self.own().is_none() {
            let below = self.below().copied();
            self.0 = Has::Own(Box::new(Own {
                below,
                ..Own::default()
            }));
        }
        match &mut self.0 {
            Has::Own(own) => own,
            _ => unreachable!("it was made just now"),
        }
    }

    /// The pieces from a page on.
    fn mapped(&self, page: u64) -> impl Iterator<Item = (u64, Mapped)> + '_ {
        self.own().into_iter().flat_map(move |own| own.map.from(page))
    }

    /// Bytes of the image's file that may show.
    pub(crate) fn below_end(&self) -> u64 {
        self.below().map_or(0, |below| below.end)
    }

    /// Where the byte at `offset` lies, and how many bytes from there on lie alike (at least 1, at most to `end`).
    pub(crate) fn locate(&self, offset: u64, end: u64) -> (Source, u64) {
        let page = offset / PAGE;
        if let Some((first, mapped)) = self.covering(page) {
            let length = ((first + mapped.count) * PAGE).min(end) - offset;
            let source = match mapped.at {
                Some(at) => Source::Data(at * PAGE + (offset - first * PAGE)),
                None => Source::Zeros,
            };
            return (source, length);
        }
        let next = self
            .mapped(page + 1)
            .next()
            .map_or(end, |(first, _)| (first * PAGE).min(end));
        match self.below() {
            Some(below) if offset < below.end => (Source::Below(below.node), next.min(below.end) - offset),
            _ => (Source::Zeros, next - offset),
        }
    }

    /// How many pages from `page` on (up to `most`) are not in the data file; 0 if `page` is.
    pub(crate) fn gap(&self, page: u64, most: u64) -> u64 {
        let mut length = 0;
        while length < most {
            match self.covering(page + length) {
                Some((first, Mapped { count, at: None })) => length = (first + count - page).min(most),
                Some(_) => break,
                None => {
                    let next = self.mapped(page + length).next();
                    length = next.map_or(most, |(first, _)| (first - page).min(most));
                }
            }
        }
        length
    }

    fn covering(&self, page: u64) -> Option<(u64, Mapped)> {
        let (first, mapped) = self.own()?.map.before(page)?;
        (page < first + mapped.count).then_some((first, mapped))
    }

    /// The data page right behind the file's page before `page`: where a sequential write would like to go on.
    pub(crate) fn follows(&self, page: u64) -> Option<u64> {
        let (first, mapped) = self.covering(page.checked_sub(1)?)?;
        Some(mapped.at? + (page - first))
    }

    /// Maps pages to the data file. What they had there before goes to `freed`.
    pub(crate) fn map(&mut self, page: u64, count: u64, at: u64, freed: &mut Vec<Run>) {
        self.unmap(page, count, freed);
        self.own_mut().pages += count;
        self.insert(page, Mapped { count, at: Some(at) });
    }

    /// Makes pages read as zeros. What they had in the data file goes to `freed`.
    pub(crate) fn hole(&mut self, page: u64, count: u64, freed: &mut Vec<Run>) {
        self.unmap(page, count, freed);
        // A hole must be kept only where the image would show through.
        let shows = self.below_end().div_ceil(PAGE).min(page + count);
        if page < shows {
            self.insert(
                page,
                Mapped {
                    count: shows - page,
                    at: None,
                },
            );
        }
    }

    /// Ends the content at `size` bytes.
    pub(crate) fn cut(&mut self, size: u64, freed: &mut Vec<Run>) {
        let kept = size.div_ceil(PAGE);
        self.unmap(kept, u64::MAX / PAGE - kept, freed);
        let below = match &mut self.0 {
            Has::Nothing => None,
            Has::Below(below) => Some(&mut **below),
            Has::Own(own) => own.below.as_mut(),
        };
        if let Some(below) = below {
            below.end = below.end.min(size);
        }
    }

    /// All runs in the data file.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.mapped(0)
            .filter_map(|(_, mapped)| mapped.at.map(|at| at..at + mapped.count))
    }

    /// What is mapped from a page on: pages of the file, how many, and where in the data file; `None` is a hole. Of a piece
    /// that begins before, the rest.
    pub(crate) fn pieces(&self, from: u64) -> impl Iterator<Item = (u64, u64, Option<u64>)> + '_ {
        let begun = self.covering(from).filter(|(first, _)| *first < from);
        let rest = begun.map(|(first, mapped)| {
            let before = from - first;
            (from, mapped.count - before, mapped.at.map(|at| at + before))
        });
        let behind = self
            .mapped(from)
            .map(|(page, mapped)| (page, mapped.count, mapped.at));
        rest.into_iter().chain(behind)
    }

    /// Takes `page..page + count` out of the map, splitting what reaches over its borders.
    fn unmap(&mut self, page: u64, count: u64, freed: &mut Vec<Run>) {
        let end = page + count;
        if let Some((first, mapped)) = self.covering(page)
            && first < page
        {
            self.split(first, mapped, page);
        }
        if let Some((first, mapped)) = end.checked_sub(1).and_then(|last| self.covering(last))
            && first + mapped.count > end
        {
            self.split(first, mapped, end);
        }
        let Has::Own(own) = &mut self.0 else { return };
        loop {
            let Some((first, mapped)) = own.map.from(page).next().filter(|(first, _)| *first < end) else {
                return;
            };
            own.map.remove(first);
            if let Some(at) = mapped.at {
                own.pages -= mapped.count;
                freed.push(at..at + mapped.count);
            }
        }
    }

    fn split(&mut self, first: u64, mapped: Mapped, border: u64) {
        let head = border - first;
        let map = &mut self.own_mut().map;
        map.insert(
            first,
            Mapped {
                count: head,
                at: mapped.at,
            },
        );
        let rest = Mapped {
            count: mapped.count - head,
            at: mapped.at.map(|at| at + head),
        };
        map.insert(border, rest);
    }

    /// Inserts pages that are not in the map, joining them with the neighbours that they continue.
    fn insert(&mut self, mut page: u64, mut new: Mapped) {
        let continues = |left: &Mapped, right: &Mapped| match (left.at, right.at) {
            (Some(left_at), Some(right_at)) => left_at + left.count == right_at,
            (None, None) => true,
            _ => false,
        };
        if let Some((first, left)) = page.checked_sub(1).and_then(|before| self.covering(before))
            && continues(&left, &new)
        {
            page = first;
            new = Mapped {
                count: left.count + new.count,
                at: left.at,
            };
        }
        let map = &mut self.own_mut().map;
        let right = map
            .before(page + new.count)
            .filter(|(first, _)| *first == page + new.count);
        if let Some((first, right)) = right
            && continues(&new, &right)
        {
            map.remove(first);
            new.count += right.count;
        }
        map.insert(page, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(content: &Content, offset: u64) -> Source {
        content.locate(offset, u64::MAX).0
    }

    #[test]
    fn sequential_pages_stay_one_run() {
        let mut content = Content::default();
        let mut freed = Vec::new();
        for page in 0..100 {
            content.map(page, 1, 7 + page, &mut freed);
        }
        assert!(content.runs().eq(std::iter::once(7..107)));
        assert_eq!((content.pages(), freed.len()), (100, 0));
        assert_eq!(content.follows(100), Some(107));
    }

    #[test]
    fn rewriting_the_middle_splits_and_frees() {
        let mut content = Content::default();
        let mut freed = Vec::new();
        content.map(0, 10, 100, &mut freed);
        content.map(4, 2, 500, &mut freed);
        assert_eq!((freed.len(), freed.first()), (1, Some(&(104..106))));
        assert_eq!(content.runs().collect::<Vec<_>>(), [100..104, 500..502, 106..110]);
        assert_eq!(at(&content, 5 * PAGE + 1), Source::Data(501 * PAGE + 1));
        assert_eq!(content.pages(), 10);
    }

    #[test]
    fn the_image_shows_through_until_cut_or_punched() {
        let node = NodeId(3);
        let mut content = Content::over(node, 10 * PAGE + 5, 81);
        let mut freed = Vec::new();
        assert_eq!(content.locate(0, 20 * PAGE), (Source::Below(node), 10 * PAGE + 5));
        assert_eq!(content.locate(10 * PAGE + 5, 20 * PAGE).0, Source::Zeros);
        content.hole(2, 3, &mut freed);
        assert_eq!(content.locate(PAGE, 20 * PAGE), (Source::Below(node), PAGE));
        assert_eq!(content.locate(2 * PAGE, 20 * PAGE), (Source::Zeros, 3 * PAGE));
        content.cut(7 * PAGE + 1, &mut freed);
        assert_eq!(
            content.locate(6 * PAGE, 20 * PAGE),
            (Source::Below(node), PAGE + 1)
        );
        content.cut(0, &mut freed);
        content.cut(9 * PAGE, &mut freed);
        assert_eq!(content.locate(0, 9 * PAGE), (Source::Zeros, 9 * PAGE));
        assert!(freed.is_empty());
    }

    #[test]
    fn gaps_end_where_data_begins() {
        let mut content = Content::over(NodeId(1), 100 * PAGE, 800);
        let mut freed = Vec::new();
        content.hole(3, 2, &mut freed);
        content.map(8, 1, 50, &mut freed);
        assert_eq!(content.gap(0, 100), 8);
        assert_eq!(content.gap(8, 100), 0);
        assert_eq!(content.gap(9, 100), 100);
        assert_eq!(content.gap(4, 2), 2);
    }
}
