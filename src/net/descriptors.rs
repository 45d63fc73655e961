//! How many descriptors may a process have? Each port and each connection is one; the usual limit, 1024, is there for programs
//! that use select(2), and may be raised by everyone up to a hard one.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// A limit that was raised, until this is dropped.
#[derive(Debug)]
pub struct Raised {
    before: rlim_t,
    most: rlim_t,
}

impl Raised {
    /// What the limit was, and the hard one.
    pub fn before(&self) -> (rlim_t, rlim_t) {
        (self.before, self.most)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // Cannot fail: it was so before.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, self.before, self.most);
    }
}

/// Lets this process have `count` descriptors more than it usually needs, as far as it may. `None`: it has them.
pub fn raise_limit(count: usize) -> Option<Raised> {
    /// What else is open in a tool or supervisor, generously.
    const OTHERS: rlim_t = 512;
    let wanted = OTHERS.saturating_add(rlim_t::try_from(count).unwrap_or(rlim_t::MAX));
    let (before, most) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if before >= wanted {
        return None;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, most, most) {
        Ok(()) => Some(Raised { before, most }),
        Err(error) => {
            tracing::debug!(%error, "the number of descriptors stays as it is");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_raised() {
        assert!(raise_limit(0).is_none());
    }
}
