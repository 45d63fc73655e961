//! What is a container called? Ids are 256 random bits; names are two words, as Docker's are.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// A container's id: 64 lower-case hex digits.
pub(crate) fn new_id() -> io::Result<String> {
    Ok(random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Two words, `adjective_botanist`; after some collisions a number is appended.
pub(crate) fn new_name(attempt: usize) -> io::Result<String> {
    let [a, b, c, d, digit] = random()?;
    let pick = |list: &[&'static str], high: u8, low: u8| {
        let at = usize::from(u16::from_be_bytes([high, low])) % list.len();
        list.get(at).copied().unwrap_or_default()
    };
    let (left, right) = (pick(LEFT, a, b), pick(RIGHT, c, d));
    Ok(match attempt {
        0..3 => format!("{left}_{right}"),
        _ => format!("{left}_{right}{digit}"),
    })
}

/// Docker's grammar for names: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    first
        && name.len() > 1
        && name.len() <= 255
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Could `text` be an id or the beginning of one?
pub(crate) fn is_id_prefix(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // Up to 256 bytes come whole (getrandom(2)).
    match getrandom(&mut bytes, GetRandomFlags::empty())? {
        length if length == N => Ok(bytes),
        _ => Err(io::Error::other("too few random bytes")),
    }
}

const LEFT: &[&str] = &[
    "agile", "amber", "ancient", "bold", "brave", "breezy", "bright", "calm", "clever", "cosy", "crisp",
    "curious", "dapper", "dewy", "eager", "earnest", "faithful", "fern", "fresh", "gentle", "glad", "green",
    "happy", "hardy", "hidden", "humble", "jolly", "keen", "kind", "lively", "lucid", "lush", "merry",
    "mild", "misty", "modest", "mossy", "nimble", "noble", "patient", "placid", "plucky", "proud", "quiet",
    "quick", "rooted", "rustic", "shady", "silent", "soft", "spry", "steady", "still", "sunny", "supple",
    "swift", "tender", "tidy", "tiny", "verdant", "vivid", "warm", "wild", "wise", "witty", "woody", "young",
    "zesty",
];

/// People who studied plants.
const RIGHT: &[&str] = &[
    "agardh",
    "arber",
    "banks",
    "bartram",
    "bauhin",
    "bentham",
    "bower",
    "braun",
    "britton",
    "brown",
    "brunfels",
    "burbank",
    "candolle",
    "carver",
    "cesalpino",
    "clusius",
    "colden",
    "commerson",
    "darwin",
    "dickson",
    "dillenius",
    "eastwood",
    "endlicher",
    "engler",
    "esau",
    "fairchild",
    "fuchs",
    "gray",
    "grew",
    "haller",
    "hedwig",
    "hofmeister",
    "hooker",
    "humboldt",
    "ingenhousz",
    "jussieu",
    "kalm",
    "lamarck",
    "lindley",
    "linnaeus",
    "lobel",
    "loureiro",
    "malpighi",
    "margulis",
    "mcclintock",
    "mendel",
    "merian",
    "mexia",
    "michaux",
    "micheli",
    "mitten",
    "mueller",
    "naegeli",
    "north",
    "nuttall",
    "parkinson",
    "plumier",
    "prantl",
    "ray",
    "rheede",
    "rumphius",
    "sachs",
    "schimper",
    "schleiden",
    "solander",
    "sprengel",
    "stebbins",
    "thunberg",
    "torrey",
    "tournefort",
    "trew",
    "vavilov",
    "wallich",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_dockers_grammar() {
        for attempt in 0..6 {
            let name = new_name(attempt).unwrap_or_default();
            assert!(is_name(&name), "{name:?}");
        }
        for bad in ["", "a", "-ab", "a/b", "..", "a b", "é1", &"x".repeat(256)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_name("a1") && is_name("A_b.c-d"));
    }

    #[test]
    fn ids_are_hex_and_differ() {
        let (one, two) = (new_id().unwrap_or_default(), new_id().unwrap_or_default());
        assert!(one.len() == 64 && is_id_prefix(&one) && one != two);
        assert!(!is_id_prefix("") && !is_id_prefix("G") && !is_id_prefix("../a"));
    }
}
