//! Which features does the kernel get to use? INIT's flags, each with its reason, and the sizes that go with them.
//!
//! The rule for every flag is in `linux/fuse.h` and in the kernel's `fs/fuse/inode.c`, `process_init_reply`. A flag that
//! the kernel does not offer is left away: all of them save messages, and only [`NEEDED`] changes what is right.

use std::io;

use super::wire::{InitIn, InitOut, MAJOR, MINOR};

/// Flags as INIT carries them: the low word in `flags`, the high one in `flags2`.
pub(super) type Flags = u64;

/// The reply to INIT is longer than in old versions, and so may our `flags2` be read.
const INIT_EXT: Flags = 1 << 30;

/// Whatever we ask for, and why.
const WANTED: &[(&str, Flags, &str)] = &[
    ("ASYNC_READ", 1 << 0, "readahead sends several READs at once"),
    ("BIG_WRITES", 1 << 5, "writes of more than a page"),
    (
        "DONT_MASK",
        1 << 6,
        "the tree applies the umask, for a default ACL replaces it",
    ),
    (
        "DO_READDIRPLUS",
        1 << 13,
        "listing a directory brings the attributes: one message, not one per file; \
         without READDIRPLUS_AUTO, by which the kernel would want them of a listing's first part alone",
    ),
    ("ASYNC_DIO", 1 << 15, "direct I/O in parallel pieces"),
    (
        "WRITEBACK_CACHE",
        1 << 16,
        "small writes gather in the page cache",
    ),
    (
        "NO_OPEN_SUPPORT",
        1 << 17,
        "no message at open and close; pages stay",
    ),
    (
        "PARALLEL_DIROPS",
        1 << 18,
        "lookups in one directory do not queue up",
    ),
    (
        "POSIX_ACL",
        1 << 20,
        "access control lists, in an unprivileged mount too",
    ),
    ("MAX_PAGES", 1 << 22, "messages of up to 1 MiB"),
    (
        "CACHE_SYMLINKS",
        1 << 23,
        "only we change a symlink, so it is read once",
    ),
    (
        "NO_OPENDIR_SUPPORT",
        1 << 24,
        "the same for directories; listings stay",
    ),
    (
        "EXPLICIT_INVAL_DATA",
        1 << 25,
        "only we change a file, so a new mtime drops no pages",
    ),
    (
        "HANDLE_KILLPRIV_V2",
        1 << 28,
        "the tree clears set-id bits; else each write asks GETXATTR",
    ),
    (
        "SETXATTR_EXT",
        1 << 29,
        "SETXATTR says when an ACL clears set-group-id",
    ),
    ("INIT_EXT", INIT_EXT, "flags beyond 32 bits"),
];

/// Without these (Linux 5.12, the youngest) an answer would be wrong: HANDLE_KILLPRIV_V2, as set-id bits would stay.
const NEEDED: Flags = 1 << 28;

/// The most data of one WRITE or READ, in bytes.
pub(super) const MAX_WRITE: u32 = 1 << 20;

/// Readahead in bytes. The kernel offers 128 KiB and takes no more.
const MAX_READAHEAD: u32 = 1 << 20;

/// Requests that nobody waits for (readahead, writeback) under way at once; the default of 12 starves two threads that
/// each wait for a disk. The congestion threshold is three quarters, as the kernel's own.
const MAX_BACKGROUND: u16 = 64;

/// Answers the kernel's INIT.
///
/// # Errors
/// The kernel lacks a feature without which answers would be wrong.
pub(super) fn answer(init: &InitIn) -> io::Result<InitOut> {
    if init.major != MAJOR {
        // A younger kernel hears our version and asks again in it; there has never been one.
        return Ok(InitOut {
            major: MAJOR,
            minor: MINOR,
            ..InitOut::default()
        });
    }
    let offered = Flags::from(init.flags) | Flags::from(init.flags2) << 32;
    if offered & NEEDED != NEEDED {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the kernel's FUSE (7.{}) lacks HANDLE_KILLPRIV_V2, which Linux 5.12 brought",
                init.minor
            ),
        ));
    }
    let agreed = wanted() & offered;
    Ok(InitOut {
        major: MAJOR,
        minor: MINOR,
        max_readahead: init.max_readahead.min(MAX_READAHEAD),
        flags: agreed as u32,
        flags2: (agreed >> 32) as u32,
        max_background: MAX_BACKGROUND,
        congestion_threshold: MAX_BACKGROUND / 4 * 3,
        max_write: MAX_WRITE,
        time_gran: 1,
        max_pages: (MAX_WRITE / 4096) as u16,
        ..InitOut::default()
    })
}

fn wanted() -> Flags {
    WANTED.iter().fold(0, |all, (_, flag, _)| all | flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: InitIn = InitIn {
        major: 7,
        minor: 45,
        max_readahead: 1 << 17,
        flags: u32::MAX,
        flags2: u32::MAX,
        unused: [0; 11],
    };

    #[test]
    fn asks_for_what_the_table_lists_and_never_for_what_loses_data() {
        let out = answer(&ALL).unwrap();
        assert_eq!(out.flags, 0x73d7_a061, "{:#x}", out.flags);
        assert_eq!(out.flags2, 0);
        for (never, why) in [
            (1 << 1, "POSIX_LOCKS: local locks survive a restart of the server"),
            (
                1 << 3,
                "ATOMIC_O_TRUNC: under NO_OPEN_SUPPORT the truncation is lost",
            ),
            (1 << 10, "FLOCK_LOCKS: as POSIX_LOCKS"),
            (1 << 12, "AUTO_INVAL_DATA: drops pages that are still right"),
            (
                1 << 14,
                "READDIRPLUS_AUTO: the attributes of a listing's first part alone",
            ),
            (
                1 << 19,
                "HANDLE_KILLPRIV: the first version kills where it must not",
            ),
        ] {
            assert_eq!(out.flags & never, 0, "{why}");
        }
    }

    #[test]
    fn asks_for_nothing_that_is_not_offered() {
        let old = InitIn {
            flags: NEEDED as u32,
            flags2: 0,
            ..ALL
        };
        let out = answer(&old).unwrap();
        assert_eq!((out.flags, out.flags2), (NEEDED as u32, 0));
        assert_eq!(out.max_readahead, 1 << 17);
    }

    #[test]
    fn says_what_an_old_kernel_lacks() {
        let error = answer(&InitIn {
            flags: 1,
            flags2: 0,
            minor: 31,
            ..ALL
        })
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("HANDLE_KILLPRIV_V2") && error.contains("5.12"),
            "{error}"
        );
    }

    #[test]
    fn a_younger_kernel_hears_our_version() {
        let out = answer(&InitIn { major: 8, ..ALL }).unwrap();
        assert_eq!((out.major, out.flags), (MAJOR, 0));
    }
}
