//! Is a small file whole? Its first line is the sha256 of the rest.

use super::Digest;

/// Digits of a sha256.
const SUM: usize = 64;

/// The text with its line.
pub fn sealed(text: &[u8]) -> Vec<u8> {
    [format!("{}\n", Digest::of(text).hex()).as_bytes(), text].concat()
}

/// The text, if it is the one that was sealed.
pub fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, text) = bytes.split_at_checked(SUM + 1)?;
    (sum == format!("{}\n", Digest::of(text).hex()).as_bytes()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_is_believed() {
        let whole = sealed(b"text");
        assert_eq!(unsealed(&whole), Some(&b"text"[..]));
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert_eq!(unsealed(&flipped), None, "byte {at}");
            assert_eq!(unsealed(&whole[..at]), None, "cut at {at}");
        }
    }
}
