//! How much memory does a pull take? What is ordinary little; what is hostile is refused, or stays below what the limits say.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::io::Write as _;
use std::process::Command;

use common::hostile::{Blobs, Hostile, digest, gzip};
use common::{Bryo, Done};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

const MB: u64 = 1_000_000;

/// Runs a command and prints the most memory that it had, in KiB, as the last line of standard error.
const MEASURE: &str = "import os, sys
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))";

/// Pulls an image, and gives what became of it and the most memory that it took, in bytes.
#[track_caller]
fn pull(bryo: &Bryo, blobs: Blobs) -> (Done, u64) {
    let registry = Hostile::serve(move |request| blobs.answer(request));
    let tool = bryo.command(["pull", "-q", &format!("{}/image", registry.address())]);
    let mut measure = Command::new("python3");
    measure
        .args(["-c", MEASURE])
        .arg(tool.get_program())
        .args(tool.get_args());
    for (name, value) in tool.get_envs() {
        measure.env(name, value.unwrap());
    }
    let done = Done::of(&mut measure);
    let (_, peak) = done
        .stderr
        .trim_end()
        .rsplit_once('\n')
        .unwrap_or(("", done.stderr.trim_end()));
    let peak = peak.parse::<u64>().unwrap_or_else(|_| panic!("{done}")) * 1024;
    println!("{} MB", peak / MB);
    (done, peak)
}

/// A tar, made as it is compressed and hashed: a blob, and its diff id.
struct Made {
    zipped: GzEncoder<Vec<u8>>,
    sum: Sha256,
}

impl Made {
    fn new() -> Made {
        Made {
            zipped: GzEncoder::new(Vec::new(), Compression::fast()),
            sum: Sha256::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.zipped.write_all(bytes).unwrap();
        self.sum.update(bytes);
    }

    fn header(&mut self, name: &str, kind: tar::EntryType, size: u64) {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(size);
        header.set_cksum();
        self.put(header.as_bytes());
    }

    fn finish(mut self) -> (Vec<u8>, String) {
        self.put(&[0; 1024]);
        let hex: String = self
            .sum
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (self.zipped.finish().unwrap(), format!("sha256:{hex}"))
    }
}

/// A layer of one file of 200 MB, of which the registry sends few.
fn large_file(name: &str, block: &[u8]) -> (Vec<u8>, String) {
    let mut made = Made::new();
    let count = 200 * MB / block.len() as u64;
    made.header(name, tar::EntryType::Regular, count * block.len() as u64);
    (0..count).for_each(|_| made.put(block));
    made.put(&vec![
        0;
        (512 - (count * block.len() as u64 % 512) as usize) % 512
    ]);
    made.finish()
}

/// A layer of many empty files, and one of this name.
fn many_files(name: &str, count: usize) -> (Vec<u8>, String) {
    let mut made = Made::new();
    made.header(name, tar::EntryType::Regular, 0);
    for number in 0..count {
        made.header(&format!("file-{number}"), tar::EntryType::Regular, 0);
    }
    made.finish()
}

#[test]
fn large_layers_take_little_memory() {
    let mut noise = vec![0u8; 10_000];
    let mut state = 7u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let layers = [
        large_file("zeros", &[0; 10_000]),
        large_file("noise", &noise),
        large_file("more", &noise),
    ];
    let (done, peak) = pull(&Bryo::new(), Blobs::of(&layers));
    assert!(done.status.success(), "{done}");
    assert!(peak < 100 * MB, "{} MB", peak / MB);
}

#[test]
fn ordinary_documents_take_little_memory() {
    let layer = gzip(&common::hostile::tar("file", 1000));
    let labels: serde_json::Map<_, _> = (0..2000)
        .map(|n| (format!("label-{n}"), "x".repeat(1000).into()))
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": labels},
        "history": vec![serde_json::json!({"created_by": "RUN true", "empty_layer": true}); 5000],
        "rootfs": {"type": "layers", "diff_ids": [digest(&common::hostile::tar("file", 1000))]},
    });
    let blobs = Blobs::with_config(config.to_string().into_bytes(), &[(layer, String::new())]);
    let (done, peak) = pull(&Bryo::new(), blobs);
    assert!(done.status.success(), "{done}");
    assert!(peak < 100 * MB, "{} MB", peak / MB);
}

/// A document of a few bytes per value, of which a parser makes a hundred.
#[test]
fn documents_of_millions_of_values_are_refused() {
    let lists = |count: usize| format!("[{}[]]", "[],".repeat(count));
    let config = |more: &str| {
        let known = r#""architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}"#;
        Blobs::with_config(format!("{{{known},{more}}}").into_bytes(), &[])
    };
    let manifest = |field: &str| Blobs {
        manifest: format!(r#"{{"schemaVersion":2,"{field}":{}}}"#, lists(1_300_000)).into_bytes(),
        ..config(r#""a":1"#)
    };
    let history = format!(r#""history":[{}{{}}]"#, "{},".repeat(2_700_000));
    let env = format!(r#""config":{{"Env":[{}""]}}"#, r#""","#.repeat(2_700_000));
    let unknown = format!(r#""unknown":{}"#, lists(2_700_000));
    for (what, blobs) in [
        ("config", config(&history)),
        ("config", config(&env)),
        ("config", config(&unknown)),
        ("manifest", manifest("layers")),
        ("manifest", manifest("config")),
        ("manifest", manifest("fsLayers")),
        ("manifest", manifest("schemaVersion")),
        ("manifest", manifest("unknown")),
    ] {
        let (done, peak) = pull(&Bryo::new(), blobs);
        let refusal = format!("{what} has more than the 100000 values");
        assert!(
            done.status.code() == Some(1) && done.stderr.contains(&refusal),
            "{done}"
        );
        assert!(peak < 100 * MB, "{} MB", peak / MB);
    }
}

/// Of layers that need much memory one is read at a time: three at once need little more than one.
#[test]
fn layers_of_many_files_take_their_turns() {
    const FILES: usize = 500_000;
    let bryo = Bryo::new();
    let (done, one) = pull(&bryo, Blobs::of(&[many_files("a", FILES)]));
    assert!(done.status.success(), "{done}");
    // Of the same names: their merged index takes no more than one's.
    let three = ["b", "c", "d"].map(|name| many_files(name, FILES));
    let (done, peak) = pull(&bryo, Blobs::of(&three));
    assert!(done.status.success(), "{done}");
    assert!(one < 500 * FILES as u64 + 50 * MB, "{} MB", one / MB);
    assert!(peak < one + 120 * MB, "{} MB, one {} MB", peak / MB, one / MB);
}

/// A small layer that is listed a thousand times is merged with itself.
#[test]
fn a_layer_of_many_files_a_thousand_times_is_refused() {
    let mut layers = vec![many_files("a", 300_000)];
    layers.resize(1000, layers[0].clone());
    let (done, peak) = pull(&Bryo::new(), Blobs::of(&layers));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stderr.contains("needs more than 1 GiB of memory"), "{done}");
    assert!(peak < 1300 * MB, "{} MB", peak / MB);
}
