//! Archives that no program would write: Go's `archive/tar`, which podman and containerd read layers with, finds the same entries in
//! them as we do, or we refuse them. Else an image would be another here than where it was looked at.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::Write as _;

use common::{Bryo, Registry};
use fuse_overlay::tar::{Body, members};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Archives that are compared.
const CASES: usize = 3000;

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    kind: String,
    name: String,
    link: String,
    size: i64,
    mode: i64,
    uid: i64,
    gid: i64,
    sec: i64,
    nsec: u32,
    bytes: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Archive {
    entries: Vec<Entry>,
    error: String,
}

/// How a number is spelled in a field of this length.
fn number(value: u64, spelling: u8, length: usize) -> Vec<u8> {
    let octal = format!("{value:0width$o}", width = length - 1);
    let mut field = match spelling {
        0..=5 => [octal.as_bytes(), b"\0"].concat(),
        6 => [octal.as_bytes(), b" "].concat(),
        7 => format!("{value:o} ").into_bytes(),
        8 => format!(" {value:o}").into_bytes(),
        9 => Vec::new(),
        10 => b"  ".to_vec(),
        11 => [&[0x80], vec![0; length - 9].as_slice(), &value.to_be_bytes()].concat(),
        12 => vec![0xff; length],
        13 => format!("-{value:o}").into_bytes(),
        14 => format!("{value:o}\0007").into_bytes(),
        _ => b"9".to_vec(),
    };
    field.resize(length, 0);
    field
}

/// One header, and what follows it.
#[derive(Debug, Clone)]
struct Header {
    name: Vec<u8>,
    prefix: Vec<u8>,
    link: Vec<u8>,
    flag: u8,
    magic: u8,
    size: u64,
    spellings: [u8; 5],
    content: Vec<u8>,
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |at: usize, most: usize, bytes: &[u8]| {
            let length = bytes.len().min(most);
            block[at..at + length].copy_from_slice(&bytes[..length]);
        };
        let [mode, uid, gid, size, mtime] = self.spellings;
        put(0, 100, &self.name);
        put(100, 8, &number(0o644, mode.min(10), 8));
        put(108, 8, &number(1000, uid.min(10), 8));
        put(116, 8, &number(100, gid.min(10), 8));
        put(124, 12, &number(self.size, size, 12));
        put(136, 12, &number(1_700_000_000, mtime, 12));
        put(156, 1, &[self.flag]);
        put(157, 100, &self.link);
        match self.magic {
            0..=4 => put(257, 8, b"ustar\x0000"),
            5..=6 => put(257, 8, b"ustar  \0"),
            7 => put(257, 8, b"ustar\0 1"),
            8 => {
                put(257, 8, b"ustar\x0000");
                put(508, 4, b"tar\0");
            }
            _ => {}
        }
        put(345, 155, &self.prefix);
        put(148, 8, b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.extend_from_slice(&self.content);
        block.resize(block.len().next_multiple_of(512), 0);
        block
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b/c", "./d", "dir/", "/e", "f//g", "", ".", "é", "a\0b"]).prop_map(|name| name.as_bytes().to_vec()),
        1 => (95usize..130).prop_map(|length| vec![b'n'; length]),
    ]
}

/// Records of a sparse file, of which some may be missing.
fn sparse() -> impl Strategy<Value = Vec<(&'static str, &'static str, i32)>> {
    let versions = vec![
        ("GNU.sparse.major", "0"),
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.minor", "1"),
    ];
    let rest = vec![
        ("GNU.sparse.numblocks", "1"),
        ("GNU.sparse.numblocks", "0"),
        ("GNU.sparse.map", "0,5"),
        ("GNU.sparse.map", ""),
        ("GNU.sparse.map", "100,0"),
        ("GNU.sparse.size", "600"),
        ("GNU.sparse.realsize", "600"),
        ("GNU.sparse.size", "0"),
        ("GNU.sparse.name", "real"),
        ("size", "0"),
        ("size", "5"),
    ];
    let some = (
        prop::sample::subsequence(versions, 0..=2),
        prop::sample::subsequence(rest, 1..=4),
    );
    some.prop_map(|(versions, rest)| {
        let all = versions.into_iter().chain(rest);
        all.map(|(key, value)| (key, value, 0)).collect()
    })
}

/// PAX records, some of them broken.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let key = prop::sample::select(vec![
        "path",
        "linkpath",
        "size",
        "uid",
        "gid",
        "mtime",
        "uname",
        "atime",
        "comment",
        "SCHILY.xattr.user.a",
        "GNU.sparse.major",
        "GNU.sparse.minor",
        "GNU.sparse.name",
        "GNU.sparse.realsize",
        "GNU.sparse.size",
        "GNU.sparse.numblocks",
        "GNU.sparse.offset",
        "GNU.sparse.numbytes",
        "GNU.sparse.map",
        "hdrcharset",
        "",
    ]);
    let value = prop::sample::select(vec![
        "p",
        "q/",
        "",
        "0",
        "1",
        "5",
        "512",
        "600",
        "-1",
        "+5",
        " 5",
        "5 ",
        "0x5",
        "1.5",
        "-1.5",
        "1e3",
        "99999999999999999999",
        "4294967295",
        "0,5",
        "0,5,100,5",
        "x\0y",
        "BINARY",
    ]);
    let length = prop_oneof![12 => Just(0i32), 1 => -2..3i32];
    let any = prop::collection::vec((key, value, length), 1..4);
    prop_oneof![3 => any, 1 => sparse()].prop_map(|records| {
        let record = |(key, value, wrong): (&str, &str, i32)| {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length += 1;
            }
            format!("{}{rest}", length as i32 + wrong)
        };
        records.into_iter().map(record).collect::<String>().into_bytes()
    })
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let spelling = || prop_oneof![20 => Just(0u8), 3 => 6..16u8];
    let flags = prop_oneof![
        6 => Just(b'0'),
        4 => prop::sample::select(vec![0, b'1', b'2', b'5', b'6', b'3', b'7', b'S']),
        1 => any::<u8>(),
    ];
    let spellings = [spelling(), spelling(), spelling(), spelling(), spelling()];
    let content = prop::collection::vec(prop::sample::select(b"abc\0\n150".to_vec()), 0..700);
    let wrong = prop_oneof![15 => Just(0i64), 1 => -5..5i64, 1 => Just(512), 1 => Just(1 << 33)];
    let prefix = prop_oneof![4 => Just(Vec::new()), 1 => Just(b"pre/fix".to_vec())];
    let magic = prop_oneof![8 => Just(0u8), 2 => 5..10u8];
    (name(), prefix, name(), flags, magic, spellings, content, wrong).prop_map(
        |(name, prefix, link, flag, magic, spellings, content, wrong)| {
            let content = match flag {
                b'0' | 0 | b'7' | b'S' => content,
                _ => Vec::new(),
            };
            let size = (content.len() as i64 + wrong).max(0) as u64;
            let link = if matches!(flag, b'1' | b'2') {
                link
            } else {
                Vec::new()
            };
            Header {
                name,
                prefix,
                link,
                flag,
                magic,
                size,
                spellings,
                content,
            }
            .bytes()
        },
    )
}

/// A header that says something of the next.
fn ahead() -> impl Strategy<Value = Vec<u8>> {
    let special = |flag: u8, magic: u8, content: Vec<u8>| Header {
        name: b"special".to_vec(),
        prefix: Vec::new(),
        link: Vec::new(),
        flag,
        magic,
        size: content.len() as u64,
        spellings: [0; 5],
        content,
    };
    prop_oneof![
        4 => (prop::sample::select(b"xxxxxXg".to_vec()), records()).prop_map(move |(flag, content)| special(flag, 0, content).bytes()),
        1 => (prop::sample::select(b"LK".to_vec()), name()).prop_map(move |(flag, mut name)| {
            name.push(0);
            special(flag, 5, name).bytes()
        }),
    ]
}

fn archive() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![3 => header(), 2 => ahead()];
    let end = prop_oneof![8 => Just(1024usize), 1 => Just(0), 1 => Just(512), 1 => 0..1024usize];
    let cut = prop_oneof![12 => Just(0usize), 1 => 1..600usize];
    (prop::collection::vec(piece, 1..6), end, cut).prop_map(|(pieces, end, cut)| {
        let mut bytes = pieces.concat();
        bytes.truncate(bytes.len().saturating_sub(cut));
        bytes.resize(bytes.len() + end, 0);
        bytes
    })
}

/// As we read it; `None`: refused.
fn ours(bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut found = Vec::new();
    members(&mut &*bytes, &mut |member, content| {
        let (mut kind, mut link, mut size, mut sum) = ("0", &[][..], 0, String::new());
        match &member.body {
            Body::Directory => kind = "5",
            Body::HardLink(target) => (kind, link) = ("1", target),
            Body::Symlink(target) => (kind, link) = ("2", target),
            Body::Special(..) => kind = "special",
            Body::Regular { size: length, .. } => {
                size = *length as i64;
                let mut bytes = vec![0; usize::try_from(*length).unwrap().min(1 << 20)];
                content.each(&member.body, &mut |at, piece| {
                    let at = usize::try_from(at).unwrap();
                    bytes[at..at + piece.len()].copy_from_slice(piece);
                    Ok(())
                })?;
                sum = hex(&Sha256::digest(&bytes));
            }
        }
        found.push(Entry {
            kind: kind.into(),
            name: hex(&member.path),
            link: hex(link),
            size,
            mode: member.perm.into(),
            uid: member.uid.into(),
            gid: member.gid.into(),
            sec: member.mtime.sec,
            nsec: member.mtime.nsec,
            bytes: sum,
        });
        Ok(())
    })
    .ok()?;
    Some(found)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Kinds as we tell them.
fn told(mut entry: Entry) -> Entry {
    match entry.kind.as_str() {
        "7" | "S" => entry.kind = "0".into(),
        "3" | "4" | "6" => entry.kind = "special".into(),
        _ => {}
    }
    if !matches!(entry.kind.as_str(), "1" | "2") {
        // Nobody looks at it.
        entry.link.clear();
    }
    if entry.kind != "0" {
        entry.size = 0;
    }
    entry
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn go_finds_the_same_entries() {
    let (bryo, registry) = (Bryo::new(), Registry::above_shared());
    let image = registry.image("library/golang:1.18");
    bryo.ok(["pull", "-q", &image]);
    let work = bryo.scratch("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("main.go"), include_str!("tar_peers/main.go")).unwrap();
    let seed = std::env::var("BRYO_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("BRYO_SEED={seed}");
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    });
    let archives: Vec<Vec<u8>> = (0..CASES)
        .map(|_| archive().new_tree(&mut runner).unwrap().current())
        .collect();
    for (number, bytes) in archives.iter().enumerate() {
        let mut file = fs::File::create(work.join(format!("{number}.tar"))).unwrap();
        file.write_all(bytes).unwrap();
    }
    let bind = format!("{}:/work", work.display());
    let go = [
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &bind,
        "-w",
        "/work",
        "-e",
        "GO111MODULE=off",
        &image,
        "go",
        "run",
        "main.go",
    ];
    let told_by_go = bryo.ok(go);
    let lines: Vec<&str> = told_by_go.lines().collect();
    assert_eq!(lines.len(), CASES);
    let (mut same, mut both_refuse, mut we_refuse, mut we_accept, mut wrong) = (0, 0, 0, 0, Vec::new());
    for (number, (bytes, line)) in archives.iter().zip(lines).enumerate() {
        let theirs: Archive = serde_json::from_str(line).unwrap();
        let error = theirs.error;
        let theirs: Vec<Entry> = theirs.entries.into_iter().map(told).collect();
        match ours(bytes) {
            None if error.is_empty() => we_refuse += 1,
            None => both_refuse += 1,
            Some(ours) if error.is_empty() && ours == theirs => same += 1,
            // Go wants the length of a sparse map besides the map.
            Some(_) if !error.is_empty() && has(bytes, "GNU.sparse.map") && !has(bytes, "numblocks") => {
                we_accept += 1;
            }
            Some(ours) => wrong.push(format!(
                "{number}: {error}\nours   {ours:?}\ntheirs {theirs:?}\n{}",
                bytes.escape_ascii()
            )),
        }
    }
    println!(
        "the same {same}, refused by both {both_refuse}, by us alone {we_refuse}, by Go alone {we_accept}"
    );
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
    assert!(same > CASES / 8, "{same}");
}
