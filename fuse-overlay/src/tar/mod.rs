//! tar ↔ checked entries: which files does a stream of tar bytes describe, and where in it do their bytes lie?
//!
//! [`source`] hands out the stream's bytes and counts them, [`read`] turns headers into [`Member`]s with the help of
//! [`number`], [`pax`] and [`sparse`]. Header layouts are the `tar` crate's; its reader is not used, because it gives no
//! places of sparse data and splits PAX records at newlines, which binary xattrs contain.
//!
//! [`members`] takes a tar as it comes, each member while its bytes pass; [`mod@write`] writes one.
//!
//! Where readers of tar differ, the rule is that of Go's `archive/tar`, which podman, containerd and Docker use, so that
//! an image means the same here; what even they would misread is refused.

mod number;
mod pax;
mod read;
mod source;
mod sparse;
mod stream;
pub mod write;

pub use pax::Xattr;
pub use read::{Body, Fault, Member, printable};
pub use sparse::Run;
pub use stream::{Content, MembersError, members};

pub(crate) use read::{ReadError, Reader};
pub(crate) use source::{Source, StreamError};

/// A tar block, the unit of headers and padding.
pub(crate) const BLOCK: usize = 512;

/// Most bytes of one PAX header, GNU long name or sparse map: what Go's `archive/tar` accepts (`maxSpecialFileSize`).
/// It bounds what is held before an entry is known to be sound.
pub(crate) const MAX_SPECIAL: u64 = 1 << 20;

/// Longest path or symlink target in bytes: `PATH_MAX` without its NUL. Linux tools could not have made a longer one.
pub(crate) const MAX_PATH: usize = 4095;
