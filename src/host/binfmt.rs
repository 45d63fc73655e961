//! Does the kernel run programs for another processor here? It does where an interpreter for them is registered with
//! binfmt_misc (kernel, admin-guide/binfmt-misc.rst), as qemu-user-static does it. Registrations are matched against the
//! beginning of such a program, so nothing depends on their names. In a container the interpreter's path means nothing: only
//! one that was opened when it was registered (flag F) is found there.

use std::fs;
use std::path::Path;

/// Where registrations are shown.
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// Whether programs for this architecture, in Go's spelling, can be run in containers.
pub fn runs(architecture: &str) -> bool {
    runs_by(Path::new(REGISTERED), architecture)
}

fn runs_by(directory: &Path, architecture: &str) -> bool {
    let Some(program) = beginning(architecture) else {
        return false;
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.any(|text| Registration::parse(&text).is_some_and(|one| one.runs(&program)))
}

/// The first bytes of an executable: class, byte order and machine as elf(5) has them.
fn beginning(architecture: &str) -> Option<[u8; 20]> {
    const BIG: bool = true;
    let (is_64, is_big, machine): (bool, bool, u16) = match architecture {
        "386" => (false, !BIG, 3),
        "amd64" => (true, !BIG, 62),
        "arm" => (false, !BIG, 40),
        "arm64" => (true, !BIG, 183),
        "loong64" => (true, !BIG, 258),
        "mips" => (false, BIG, 8),
        "mipsle" => (false, !BIG, 8),
        "mips64" => (true, BIG, 8),
        "mips64le" => (true, !BIG, 8),
        "ppc64" => (true, BIG, 21),
        "ppc64le" => (true, !BIG, 21),
        "riscv64" => (true, !BIG, 243),
        "s390x" => (true, BIG, 22),
        _ => return None,
    };
    const EXECUTABLE: u16 = 2;
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(b"\x7fELF");
    bytes[4..7].copy_from_slice(&[1 + u8::from(is_64), 1 + u8::from(is_big), 1]);
    let word = |value: u16| match is_big {
        true => value.to_be_bytes(),
        false => value.to_le_bytes(),
    };
    bytes[16..18].copy_from_slice(&word(EXECUTABLE));
    bytes[18..20].copy_from_slice(&word(machine));
    Some(bytes)
}

/// One file of the directory.
#[derive(Debug, Default)]
struct Registration {
    is_enabled: bool,
    is_open: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Registration {
    fn parse(text: &str) -> Option<Registration> {
        let mut one = Registration::default();
        for line in text.lines() {
            match line.split_once(' ') {
                None if line == "enabled" => one.is_enabled = true,
                Some(("flags:", flags)) => one.is_open = flags.contains('F'),
                Some(("offset", offset)) => one.offset = offset.parse().ok()?,
                Some(("magic", magic)) => one.magic = bytes(magic)?,
                Some(("mask", mask)) => one.mask = bytes(mask)?,
                _ => {}
            }
        }
        (!one.magic.is_empty()).then_some(one)
    }

    fn runs(&self, program: &[u8]) -> bool {
        let looked_at = self.offset.checked_add(self.magic.len());
        let Some(part) = looked_at.and_then(|end| program.get(self.offset..end)) else {
            return false;
        };
        let mask = self.mask.iter().copied().chain(std::iter::repeat(0xff));
        let mut pairs = part.iter().zip(&self.magic).zip(mask);
        self.is_enabled && self.is_open && pairs.all(|((byte, magic), mask)| (byte ^ magic) & mask == 0)
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(std::str::from_utf8);
    pairs
        .map(|pair| u8::from_str_radix(pair.ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// As Debian's qemu-user-static registers it.
    const ARM64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn what_is_registered_is_run() {
        let directory = tempfile::tempdir().unwrap();
        let runs = |text: &str, architecture| {
            fs::write(directory.path().join("any-name"), text).unwrap();
            runs_by(directory.path(), architecture)
        };
        assert!(runs(ARM64, "arm64"));
        for other in ["arm", "amd64", "ppc64le", "s390x", "riscv64", "vax"] {
            assert!(!runs(ARM64, other), "{other}");
        }
        for changed in [
            ARM64.replace("enabled", "disabled"),
            ARM64.replace("POCF", "POC"),
            ARM64.replace("offset 0", "offset 7"),
            ARM64.replace("magic", "extension"),
            String::new(),
        ] {
            assert!(!runs(&changed, "arm64"), "{changed}");
        }
        assert!(!runs_by(&directory.path().join("none"), "arm64"));
    }
}
