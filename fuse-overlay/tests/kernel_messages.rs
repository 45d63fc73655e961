//! Which messages does the kernel send, and which does it save? What it has been told once it believes for ever.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use common::{Ids, Layer, in_mount};

fn image() -> [Layer; 1] {
    let mut layer = Layer::new().dir("d").symlink("link", "d");
    for number in 0..50 {
        layer = layer.file(&format!("d/{number}"), vec![7; 5000]);
    }
    [layer]
}

#[test]
fn what_is_known_is_not_asked_again() {
    in_mount(Ids::One, &image(), |inside| {
        let list = || {
            for entry in fs::read_dir(inside.path("d")).unwrap() {
                assert_eq!(fs::metadata(entry.unwrap().path()).unwrap().len(), 5000);
            }
            assert!(fs::metadata(inside.path("d/absent")).is_err());
            assert_eq!(fs::read_link(inside.path("link")).unwrap().to_str(), Some("d"));
        };
        let read = || {
            for number in 0..50 {
                let mut data = [0; 5000];
                let file = File::open(inside.path(&format!("d/{number}"))).unwrap();
                file.read_exact_at(&mut data, 0).unwrap();
                assert_eq!(data, [7; 5000]);
            }
        };
        let first = inside.replies(list);
        assert!(
            (5..20).contains(&first),
            "{first}: READDIRPLUS should bring all attributes"
        );
        assert!(inside.replies(read) >= 50);
        assert_eq!(inside.replies(read), 0);
        // Reading outdates the access times and closing the block counts (the kernel's `fuse_flush` under writeback). A
        // listing brings them all back, so the kernel was told to forget the one that it had.
        let walk = || {
            list();
            read();
        };
        let passes: Vec<u64> = (0..40).map(|_| inside.replies(walk)).collect();
        // Now and then it keeps one, and each file is asked: once in sixteen listings, of which a pass may take two.
        let kept = passes.iter().filter(|replies| **replies >= 10).count();
        assert!(
            kept <= 5 && passes.iter().all(|replies| *replies <= 55),
            "{passes:?}"
        );
        let walks = inside.replies(|| (0..50).for_each(|_| walk()));
        assert!(walks < 50 * 15, "{walks} for 50 walks");
        // Where nothing is read any more, silence comes back: after two dozen listings at most, but one that comes before the
        // kernel has forgotten the last does not count.
        (0..60).for_each(|_| list());
        assert_eq!(inside.replies(list), 0);
    });
}

/// A listing takes several messages; each brings the attributes of what it names. But who lists a directory with very many
/// names has the kernel keep few of them.
#[test]
fn a_listing_brings_all_attributes_unless_they_are_very_many() {
    let directory = |name: &str, files: u32| {
        let path = |number| format!("{name}/a-name-of-some-length-{number}");
        (0..files).fold(Layer::new().dir(name), |layer, number| {
            layer.file(&path(number), "")
        })
    };
    in_mount(
        Ids::One,
        &[directory("some", 2_000), directory("many", 10_000)],
        |inside| {
            let list = |dir: &str| assert!(fs::read_dir(inside.path(dir)).unwrap().count() > 0);
            let stat = |dir: &str, count: usize| {
                for entry in fs::read_dir(inside.path(dir)).unwrap().take(count) {
                    entry.unwrap().metadata().unwrap();
                }
            };
            assert!(inside.replies(|| list("some")) < 40);
            let asked = inside.replies(|| stat("some", 2_000));
            assert!(asked < 10, "{asked} messages for what the listing told");
            list("many");
            let asked = inside.replies(|| stat("many", 10_000));
            assert!(asked > 9_000, "{asked} messages: the listing told all");
        },
    );
}

/// Listing outdates the access time of a directory. Who walks a tree again need not ask for each.
#[test]
fn a_tree_that_is_walked_again_costs_few_messages() {
    let dirs = (0..20).flat_map(|one| (0..20).map(move |other| (one, other)));
    let mut layer = (0..20).fold(Layer::new(), |layer, one| layer.dir(&format!("{one}")));
    for (one, other) in dirs {
        layer = layer
            .dir(&format!("{one}/{other}"))
            .file(&format!("{one}/{other}/file"), "");
    }
    in_mount(Ids::One, &[layer], |inside| {
        let passes: Vec<u64> = (0..6)
            .map(|_| inside.replies(|| drop(inside.sh("find . -type f"))))
            .collect();
        // 421 directories. First each is listed and, beside the answers, some parents' listings are forgotten; then it is
        // the parents' turn alone, then nobody's.
        assert!(passes[1] < 200, "{passes:?}");
        assert!(passes[3..].iter().all(|replies| *replies < 30), "{passes:?}");
    });
}

#[test]
fn opening_and_closing_sends_nothing() {
    in_mount(Ids::One, &image(), |inside| {
        let work = || {
            drop(File::open(inside.path("d/1")).unwrap());
            drop(fs::read_dir(inside.path("d")).unwrap());
        };
        work();
        assert_eq!(inside.replies(|| (0..100).for_each(|_| work())), 0);
    });
}

#[test]
fn small_writes_gather() {
    in_mount(Ids::One, &image(), |inside| {
        let mut file = OpenOptions::new().append(true).open(inside.path("d/1")).unwrap();
        file.write_all(b"x").unwrap();
        let replies = inside.replies(|| (0..1000).for_each(|_| file.write_all(b"line\n").unwrap()));
        assert!(replies < 20, "{replies} for 1000 writes");
    });
}

#[test]
fn large_writes_travel_in_pieces_of_a_mebibyte() {
    in_mount(Ids::One, &image(), |inside| {
        use std::os::unix::fs::OpenOptionsExt;
        let path = inside.path("d/direct");
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)
            .unwrap();
        let data = vec![1; 9 << 20];
        // Memory that is aligned as O_DIRECT wants it.
        let start = data.as_ptr().align_offset(4096);
        let replies = inside.replies(|| file.write_all_at(&data[start..start + (8 << 20)], 0).unwrap());
        // Each piece costs a write of its data, too; pieces of 128 KiB would be 64.
        assert!((8..60).contains(&replies), "{replies}");
    });
}

#[test]
fn a_name_made_after_it_was_missed_is_found() {
    in_mount(Ids::One, &image(), |inside| {
        let path = inside.path("d/late");
        assert!(fs::metadata(&path).is_err());
        assert_eq!(inside.replies(|| assert!(fs::metadata(&path).is_err())), 0);
        fs::hard_link(inside.path("d/1"), &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 5000);
        fs::rename(&path, inside.path("d/later")).unwrap();
        assert!(fs::metadata(&path).is_err());
        assert!(fs::metadata(inside.path("d/later")).is_ok());
    });
}

#[test]
fn an_idle_server_sleeps() {
    in_mount(Ids::One, &image(), |inside| {
        for number in 0..200 {
            fs::write(inside.path(&format!("d/new{number}")), "x").unwrap();
        }
        // utime and stime of all its threads, in ticks. The sync that follows the writes comes within five seconds.
        let ticks = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", inside.server)).unwrap();
            let fields: Vec<u64> = stat
                .rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .filter_map(|field| field.parse().ok())
                .collect();
            // After the name come the state, which is no number, and ten fields before utime.
            fields[10] + fields[11]
        };
        std::thread::sleep(std::time::Duration::from_secs(7));
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(ticks(), before);
    });
}
