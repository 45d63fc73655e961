//! The journal after the server was killed, after all of it outlived its data, and after bits have flipped.

use fuse_overlay::union::{Limits, OpenError, Tree};
use proptest::prelude::*;

use super::disk::MemoryDisk;
use super::dump::{Dump, dump};
use super::harness::{Both, Image};
use super::ops::{self, Op};

/// The state after a step: the bytes of records, the data file, and what can be seen.
struct Moment {
    journal_end: usize,
    data: Vec<u8>,
    seen: Dump,
}

/// Where the last record ends. Each begins with its length, and all behind the last is zero; a record may itself end in
/// zeros, so that it is no use to look for those.
pub fn journal_end(disk: &MemoryDisk) -> usize {
    let bytes = disk.journal.bytes.lock();
    let length_at = |at: usize| {
        let field = bytes.cache.get(at..at + 4)?;
        Some(u32::from_le_bytes(field.try_into().unwrap()) as usize).filter(|length| *length > 0)
    };
    let mut end = 4096;
    while let Some(length) = length_at(end) {
        end += length.next_multiple_of(8);
    }
    end
}

fn history(image: &Image, disk: &MemoryDisk, steps: &[Op]) -> Vec<Moment> {
    let mut both = Both::on(image, disk.clone());
    let moment = |both: &Both<'_>| {
        let data = disk.data.bytes.lock().cache.clone();
        Moment {
            journal_end: journal_end(disk),
            data,
            seen: dump(both.tree()),
        }
    };
    let mut moments = vec![moment(&both)];
    for step in steps.iter().filter(|step| !step.is_upkeep()) {
        both.step(step);
        moments.push(moment(&both));
    }
    moments
}

pub fn steps(most: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(ops::op(), 1..most)
}

proptest! {
    #![proptest_config(super::config(64))]

    #[test]
    fn a_flipped_bit_is_refused_or_cut(layers in ops::layers(), steps in steps(12), bit in 0..8u8, places in prop::collection::vec(any::<prop::sample::Index>(), 6)) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let disk = MemoryDisk::new();
        let moments = history(&image, &disk, &steps);
        let whole = disk.journal.bytes.lock().cache.clone();
        for place in places {
            let at = place.index(moments.last().unwrap().journal_end);
            let mut journal = whole.clone();
            journal[at] ^= 1 << bit;
            // All before the record, or, if nobody needs the bit (padding), everything. A step that removes something may have
            // two records, the second of which, that its inode was forgotten, nobody can see.
            let before = moments.iter().rposition(|moment| moment.journal_end <= at.max(4096)).unwrap();
            let possible = moments[before..].iter().take(2).chain(moments.last()).any(|moment| {
                let disk = MemoryDisk::holding(journal.clone(), moment.data.clone());
                match Tree::open_on(image.lower(), disk.storage(), Limits::default()) {
                    Ok(tree) => dump(&tree) == moment.seen,
                    Err(OpenError::Damaged { .. } | OpenError::Version { .. }) => true,
                    Err(_) => false,
                }
            });
            prop_assert!(possible, "bit {bit} of byte {at}");
        }
    }
}

/// A bit of everything.
pub fn chequered() -> Vec<Op> {
    use fuse_overlay::union::{Allocate, Rename, SetXattr};
    use ops::File::{At, Open};
    let write = |name, offset, length| Op::write(At(vec![name]), offset, length);
    vec![
        Op::Create(vec!["a"], 0o4755),
        write("a", 10, 5000),
        Op::Mkdir(vec!["b"], 0o755),
        Op::Rename(vec!["a"], vec!["b", "c"], Rename::Whiteout),
        Op::Rename(vec!["b"], vec!["a"], Rename::Exchange),
        Op::Link(At(vec!["a", "c"]), vec!["c"]),
        write("c", 4000, 9000),
        Op::Allocate(At(vec!["c"]), Allocate::PunchHole, 4096, 5000),
        Op::Truncate(At(vec!["c"]), 100),
        Op::SetXattr(At(vec!["c"]), "user.x", 40, SetXattr::Any),
        Op::TmpFile(vec!["a"]),
        Op::Link(Open(0), vec!["a", "b"]),
        Op::Unlink(vec!["c"]),
        Op::Close(0),
        Op::Unlink(vec!["a", "c"]),
    ]
}

#[test]
fn a_journal_cut_at_any_byte_is_a_prefix_of_what_happened() {
    let layers = [vec![ops::LayerEntry::File(vec!["d"], 5000)]];
    let image = Image::new(&layers).unwrap();
    let disk = MemoryDisk::new();
    let moments = history(&image, &disk, &chequered());
    let whole = disk.journal.bytes.lock().cache.clone();
    let end = moments.last().unwrap().journal_end;
    assert!(end > 4096 + 15 * 64);
    for cut in 4096..end {
        let mut journal = whole[..end + 64].to_vec();
        journal[cut..].fill(0);
        // A record that ends in zeros is whole without them.
        let kept = journal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let original = whole[..end].iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let reached = moments.iter().rposition(|moment| {
            let record = &whole[..moment.journal_end];
            let last = record.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            last <= kept.min(original)
        });
        // The step after may be there without the record that its inode was forgotten, which nobody can see.
        let reached = reached.unwrap();
        let same = moments[reached..].iter().take(2).any(|moment| {
            let disk = MemoryDisk::holding(journal.clone(), moment.data.clone());
            dump(&Tree::open_on(image.lower(), disk.storage(), Limits::default()).unwrap()) == moment.seen
        });
        assert!(same, "cut at byte {cut}, after step {reached}");
    }
}

#[test]
fn damage_to_what_was_promised_is_said() {
    let image = Image::new(&[]).unwrap();
    let disk = MemoryDisk::new();
    let mut both = Both::on(&image, disk.clone());
    let create = |name| Op::Create(vec![name], 0o644);
    both.step(&create("a"));
    let middle = journal_end(&disk);
    both.step(&create("b"));
    both.step(&Op::Sync);
    both.step(&create("c"));
    let mut journal = disk.journal.bytes.lock().cache.clone();
    journal[middle + 40] ^= 1;
    let disk = MemoryDisk::holding(journal, Vec::new());
    match Tree::open_on(image.lower(), disk.storage(), Limits::default()) {
        Err(OpenError::Damaged { offset, .. }) => assert_eq!(offset, middle as u64),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_journal_of_another_image_or_version_is_refused() {
    let image = Image::new(&[]).unwrap();
    let disk = MemoryDisk::new();
    drop(Both::on(&image, disk.clone()));
    let other = Image::new(&[vec![ops::LayerEntry::Dir(vec!["a"])]]).unwrap();
    let opened = Tree::open_on(other.lower(), disk.storage(), Limits::default());
    assert!(matches!(opened, Err(OpenError::OtherImage { .. })), "{opened:?}");
    // The same image and as many nodes, numbered otherwise.
    let entry = |name| ops::LayerEntry::Dir(vec![name]);
    let one = Image::new(&[vec![entry("a"), ops::LayerEntry::File(vec!["b"], 1)]]).unwrap();
    let two = Image::new(&[vec![ops::LayerEntry::File(vec!["a"], 1), entry("b")]]).unwrap();
    let numbered = MemoryDisk::new();
    drop(Both::on(&one, numbered.clone()));
    let opened = Tree::open_on(two.lower(), numbered.storage(), Limits::default());
    assert!(matches!(opened, Err(OpenError::OtherImage { .. })), "{opened:?}");
    disk.journal.bytes.lock().cache[8] = 9;
    let opened = Tree::open_on(image.lower(), disk.storage(), Limits::default());
    assert!(
        matches!(opened, Err(OpenError::Version { version: 9, .. })),
        "{opened:?}"
    );
}

#[test]
fn a_header_lost_with_the_power_is_a_new_journal() {
    let image = Image::new(&[]).unwrap();
    let disk = MemoryDisk::new();
    let mut both = Both::on(&image, disk.clone());
    let empty = dump(both.tree());
    both.step(&Op::Create(vec!["a"], 0o644));
    let whole = disk.journal.bytes.lock().cache.clone();
    let mut journal = whole.clone();
    journal[..4096].fill(0);
    let lost = MemoryDisk::holding(journal, Vec::new());
    let tree = Tree::open_on(image.lower(), lost.storage(), Limits::default()).unwrap();
    assert_eq!(dump(&tree), empty);
    drop(tree);
    let made = lost.journal.bytes.lock().cache.clone();
    assert!(made.starts_with(b"BRYOJNL1") && made[64..].iter().all(|byte| *byte == 0));
    // Other bytes than zeros are damage.
    let mut journal = whole;
    journal[..4096].fill(1);
    let damaged = MemoryDisk::holding(journal, Vec::new());
    let opened = Tree::open_on(image.lower(), damaged.storage(), Limits::default());
    assert!(
        matches!(opened, Err(OpenError::Damaged { offset: 0, .. })),
        "{opened:?}"
    );
}

#[test]
fn a_record_that_outlived_its_data_does_not_count() {
    let image = Image::new(&[]).unwrap();
    let disk = MemoryDisk::new();
    let mut both = Both::on(&image, disk.clone());
    both.step(&Op::Create(vec!["a"], 0o644));
    both.step(&Op::Sync);
    let synced = dump(both.tree());
    for step in chequered().iter().skip(1) {
        both.step(step);
    }
    let whole = disk.journal.bytes.lock().cache.clone();
    // The host wrote all of the journal, and none of the data.
    let lost = MemoryDisk {
        boot: [2; 16],
        ..MemoryDisk::holding(whole, disk.data.bytes.lock().disk.clone())
    };
    let tree = Tree::open_on(image.lower(), lost.storage(), Limits::default()).unwrap();
    assert_eq!(dump(&tree), synced);
    // What follows counts, and what was left out stays so: under this boot, and after the next loss.
    let made = tree.mkdir(
        &ops::CALLER,
        fuse_overlay::attr::Ino::ROOT,
        super::harness::name("new"),
        0o755,
    );
    assert!(made.is_ok());
    let with_new = dump(&tree);
    assert_ne!(with_new, synced);
    drop(tree);
    let open = |disk: &MemoryDisk| Tree::open_on(image.lower(), disk.storage(), Limits::default()).unwrap();
    let tree = open(&lost);
    assert_eq!(dump(&tree), with_new);
    assert_eq!(dump(&open(&lost.after_power_loss(|| true))), synced);
    drop(tree.sync().unwrap());
    assert_eq!(dump(&open(&lost.after_power_loss(|| true))), with_new);
    assert_eq!(dump(&open(&lost.after_power_loss(|| false))), with_new);
}
