//! The power is lost at any moment. Of what was written since a file's last flush the disk then holds any sectors, in any
//! state that they had: a host writes pages when it likes, and a disk sectors in any order. What was synced is there, what
//! came later is there whole or not at all, but for bytes written in place.

use std::collections::BTreeMap;

use fuse_overlay::attr::Ino;
use fuse_overlay::union::{Limits, Rename, Tree};
use proptest::prelude::*;

use super::common::chance::Chance;
use super::crash::{chequered, steps};
use super::disk::{Event, MemoryDisk, Which};
use super::dump::{Dump, dump, without_content};
use super::harness::{Both, Image, name};
use super::lists;
use super::ops::{self, File, LayerEntry, Op};

const SECTOR: usize = 512;

/// One file: as the page cache has it, and what of it may be on the disk.
#[derive(Default)]
struct Platter {
    cache: Vec<u8>,
    disk: Vec<u8>,
    /// What sectors held since the last flush, in order.
    written: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl Platter {
    fn apply(&mut self, event: &Event) {
        let Event::Wrote(offset, bytes) = event else {
            self.disk.clone_from(&self.cache);
            self.written.clear();
            return;
        };
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        let before: Vec<Vec<u8>> = sectors.clone().map(|n| self.sector(n)).collect();
        self.cache[*offset..end].copy_from_slice(bytes);
        for (n, before) in sectors.zip(before) {
            let now = self.sector(n);
            if now != before {
                self.written.entry(n).or_default().push(now);
            }
        }
    }

    fn sector(&self, n: usize) -> Vec<u8> {
        let mut sector = self.cache.get(n * SECTOR..).unwrap_or_default().to_vec();
        sector.resize(SECTOR, 0);
        sector
    }

    /// What a loss of power leaves: of each sector, the state that `choose` picks of so many.
    fn after_loss(&self, choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        let mut left = self.disk.clone();
        for (n, states) in &self.written {
            if let Some(state) = choose(states.len() + 1).checked_sub(1) {
                left.resize(left.len().max((n + 1) * SECTOR), 0);
                left[n * SECTOR..(n + 1) * SECTOR].copy_from_slice(&states[state]);
            }
        }
        left.truncate(self.cache.len());
        if choose(2) == 1 {
            left.resize(self.cache.len(), 0);
        }
        left
    }
}

/// What can be seen after a step.
struct Moment {
    /// So many events had happened.
    events: usize,
    /// Somebody was told that all is on the disk.
    synced: bool,
    seen: Dump,
}

/// What happened to the disk, and what could be seen meanwhile.
struct Recording {
    events: Vec<(Which, Event)>,
    moments: Vec<Moment>,
}

impl Recording {
    /// What one server did.
    fn of(image: &Image, steps: &[Op]) -> Recording {
        let by_one = steps.iter().filter(|step| !matches!(step, Op::Remount)).cloned();
        Recording::of_all(image, &by_one.collect::<Vec<_>>())
    }

    /// What several servers did, one after the other.
    fn of_all(image: &Image, steps: &[Op]) -> Recording {
        let (disk, events) = MemoryDisk::recording();
        let mut both = Both::on(image, disk);
        let mut moments = Vec::new();
        let note = |both: &Both<'_>, synced| Moment {
            events: events.lock().len(),
            synced,
            seen: dump(both.tree()),
        };
        moments.push(note(&both, false));
        // What happens during a checkpoint happens before it here: a moment is noted after each operation
        // (`checkpoints.rs` loses the power during one).
        let apart = steps.iter().flat_map(|step| match step {
            Op::Checkpoint(meanwhile) => [&meanwhile[..], &[Op::Checkpoint(Vec::new())]].concat(),
            other => vec![other.clone()],
        });
        // A list is lost by no call of the disk, so the events would not tell of it.
        for step in apart.filter(|step| !matches!(step, Op::LoseList)) {
            both.step(&step);
            moments.push(note(&both, matches!(step, Op::Sync)));
        }
        let events = events.lock().clone();
        Recording { events, moments }
    }

    /// What may be there if the power goes after `cut` events: all moments since the last that was synced, and what a step
    /// under way would have brought.
    fn possible(&self, cut: usize) -> &[Moment] {
        let last = |which: &dyn Fn(&Moment) -> bool| self.moments.iter().rposition(which);
        let synced = last(&|moment| moment.synced && moment.events <= cut).unwrap_or(0);
        let begun = self
            .moments
            .iter()
            .position(|moment| moment.events >= cut)
            .unwrap();
        let ended = last(&|moment| moment.events <= cut).unwrap_or(0);
        &self.moments[synced..=begun.max(ended)]
    }

    /// Gives to `check` what the disk may hold when the power goes at each of the moments that `wanted` picks: nothing that
    /// was not flushed, all, all of one file, and `times` mixtures.
    fn lose_power(
        &self,
        wanted: impl Fn(usize) -> bool,
        times: u64,
        mut check: impl FnMut(usize, &MemoryDisk),
    ) {
        let (mut journal, mut data) = (Platter::default(), Platter::default());
        for cut in 0..=self.events.len() {
            if let Some((which, event)) = cut.checked_sub(1).map(|last| &self.events[last]) {
                match which {
                    Which::Journal => journal.apply(event),
                    Which::Data => data.apply(event),
                }
            }
            if !wanted(cut) {
                continue;
            }
            let mut left = |of_journal: &mut dyn FnMut(usize) -> usize,
                            of_data: &mut dyn FnMut(usize) -> usize| {
                let disk = MemoryDisk {
                    boot: [2; 16],
                    ..MemoryDisk::holding(journal.after_loss(of_journal), data.after_loss(of_data))
                };
                check(cut, &disk);
            };
            let none = |_: usize| 0;
            let all = |states: usize| states - 1;
            left(&mut { none }, &mut { none });
            left(&mut { all }, &mut { all });
            left(&mut { all }, &mut { none });
            left(&mut { none }, &mut { all });
            for seed in 0..times {
                let (mut one, mut other) = (Chance(seed + 7), Chance(cut as u64 * 1000 + seed));
                left(&mut |n| one.below(n), &mut |n| other.below(n));
            }
        }
    }
}

fn open(image: &Image, disk: &MemoryDisk) -> Tree {
    Tree::open_on(image.lower(), disk.storage(), Limits::default()).unwrap()
}

/// Are all files what they were at one of the moments, but for bytes that they had at others?
fn agrees(seen: &Dump, possible: &[Moment], cut: usize) {
    let names = without_content(seen);
    let one = possible
        .iter()
        .any(|moment| without_content(&moment.seen) == names);
    assert!(one, "cut after {cut} events: {names:#?}");
    for (path, file) in seen {
        let versions = possible.iter().flat_map(|moment| moment.seen.values());
        let versions: Vec<_> = versions.filter(|other| other.ino == file.ino).collect();
        if versions.iter().any(|version| version.content == file.content) {
            continue;
        }
        for (at, byte) in file.content.iter().enumerate() {
            let known = versions
                .iter()
                .any(|version| version.content.get(at) == Some(byte));
            assert!(
                known,
                "cut after {cut} events: {path}: byte {at} is {byte}, which it never was"
            );
        }
    }
}

/// Opens what the loss left, compares; then goes on, and loses the power again.
fn check(image: &Image, recording: &Recording, cut: usize, disk: &MemoryDisk) {
    let tree = open(image, disk);
    let seen = dump(&tree);
    agrees(&seen, recording.possible(cut), cut);
    drop(tree);
    // Opening has changed nothing that the next loss could take.
    for reached in [false, true] {
        assert_eq!(
            dump(&open(image, &disk.after_power_loss(|| reached))),
            seen,
            "cut after {cut} events"
        );
    }
    let tree = open(image, disk);
    let made = tree.mkdir(&ops::CALLER, Ino::ROOT, name("new"), 0o755);
    drop(tree.sync().unwrap());
    let seen = dump(&tree);
    assert!(made.is_ok() && seen.contains_key("/new"));
    assert_eq!(
        dump(&open(image, &disk.after_power_loss(|| false))),
        seen,
        "cut after {cut} events"
    );
}

#[test]
fn what_was_synced_outlives_a_loss_of_power_at_any_moment() {
    let image = Image::new(&[vec![
        LayerEntry::Dir(vec!["d"]),
        LayerEntry::File(vec!["d", "a"], 5000),
    ]])
    .unwrap();
    let mut steps: Vec<Op> = chequered()
        .into_iter()
        .flat_map(|step| [step, Op::Sync])
        .collect();
    steps.extend(chequered());
    let recording = Recording::of(&image, &steps);
    recording.lose_power(|_| true, 6, |cut, disk| check(&image, &recording, cut, disk));
}

proptest! {
    #![proptest_config(super::config(48))]

    #[test]
    fn what_was_synced_outlives_a_loss_of_power(
        layers in ops::layers(),
        steps in steps(40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let recording = Recording::of(&image, &steps);
        let cuts: Vec<_> = cuts.iter().map(|cut| cut.index(recording.events.len() + 1)).collect();
        recording.lose_power(|cut| cuts.contains(&cut), 4, |cut, disk| check(&image, &recording, cut, disk));
    }
}

proptest! {
    #![proptest_config(super::config(48))]

    /// A server that was opened by the list changes the tree until the power goes: who opens it by the list sees what who reads
    /// all sees.
    #[test]
    fn what_follows_a_list_outlives_a_loss_of_power(
        layers in ops::layers(),
        before in steps(20),
        after in steps(20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let opened: Vec<Op> = [&before[..], &[Op::List, Op::Remount]].concat();
        let first = Recording::of_all(&image, &opened).moments.len();
        let recording = Recording::of_all(&image, &[opened, after].concat());
        let first = recording.moments[first - 1].events;
        let behind = recording.events.len() + 1 - first;
        let cuts: Vec<_> = cuts.iter().map(|cut| first + cut.index(behind)).collect();
        let look = |cut: usize, disk: &MemoryDisk| {
            let [listed, all] = [disk.copy(), lists::without_list(disk)].map(|disk| lists::open(&image, &disk));
            assert!(dump(&listed) == dump(&all), "cut after {cut} events");
            // What each has freed is free in both.
            for tree in [&listed, &all] {
                drop(tree.sync().unwrap());
            }
            assert_eq!(lists::space(&listed), lists::space(&all), "cut after {cut} events");
            check(&image, &recording, cut, disk);
        };
        recording.lose_power(|cut| cuts.contains(&cut), 4, look);
    }
}

/// As programs replace their files, with and without a sync of the new one.
#[test]
fn a_file_that_is_replaced_is_the_old_or_the_new() {
    let image = Image::new(&[]).unwrap();
    let write = |name, length: usize, byte| {
        let file = || File::At(vec![name]);
        let write = |offset, length| Op::Write {
            file: file(),
            offset,
            length,
            byte,
            kill_priv: false,
        };
        [
            Op::Create(vec![name], 0o644),
            write(0, 4096),
            write(4096, length - 4096),
        ]
    };
    for synced in [false, true] {
        let mut steps: Vec<Op> = write("a", 5000, 1).into();
        steps.push(Op::Sync);
        let old = steps.len();
        steps.extend(write("b", 9000, 2));
        steps.extend(synced.then_some(Op::Sync));
        steps.push(Op::Rename(vec!["b"], vec!["a"], Rename::Replace));
        steps.push(Op::Sync);
        let recording = Recording::of(&image, &steps);
        let content = |seen: &Dump| seen["/a"].content.clone();
        let [old, new] = [&recording.moments[old], recording.moments.last().unwrap()];
        let (begun, ended) = (old.events, new.events);
        let [old, new] = [content(&old.seen), content(&new.seen)];
        assert!(old.len() == 5000 && new.len() == 9000);
        recording.lose_power(
            |cut| cut >= begun,
            20,
            |cut, disk| {
                let left = content(&dump(&open(&image, disk)));
                assert!(
                    left == new || left == old && cut < ended,
                    "cut after {cut} events"
                );
            },
        );
    }
}
