//! Numbers of TCP's bytes, which begin again after 2³² of them.

/// A sequence number; only differences of such have a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seq(pub u32);

impl Seq {
    /// The number `bytes` further on.
    pub fn plus(self, bytes: usize) -> Seq {
        Seq(self.0.wrapping_add(bytes as u32))
    }

    /// How many bytes lie between an `earlier` number and this one; `None` if it is later.
    pub fn since(self, earlier: Seq) -> Option<usize> {
        let distance = self.0.wrapping_sub(earlier.0);
        (distance < 1 << 31).then_some(distance as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn numbers_begin_again() {
        let last = Seq(u32::MAX);
        assert_eq!(last.plus(3), Seq(2));
        assert_eq!(Seq(2).since(last), Some(3));
        assert_eq!(last.since(Seq(2)), None);
        assert_eq!(last.since(last), Some(0));
    }
}
