//! Lists a tree completely and comparably: one line for each path, sorted, with all that an image can say of it.
//!
//!     path  type mode uid:gid size mtime  [rdev] [-> target] [xattrs] [sha256]
//!
//! Static like Bryo, so that it runs inside any image; `tests/tree.rs` compares what it prints in a Bryo container
//! with what it printed in podman's. It stays on one filesystem; sizes of directories and link counts are left out,
//! as filesystems disagree about them rightfully.
#![allow(missing_docs)]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::{Digest, Sha256};

fn main() -> io::Result<()> {
    let root = std::env::args_os()
        .nth(1)
        .ok_or_else(|| io::Error::other("usage: list-tree DIRECTORY"))?;
    let root = Path::new(&root);
    let mut out = io::BufWriter::new(io::stdout().lock());
    list(root, Path::new("/"), fs::symlink_metadata(root)?.dev(), &mut out)?;
    out.flush()
}

/// Lists `path`, calling it `shown`.
fn list(path: &Path, shown: &Path, device: u64, out: &mut impl io::Write) -> io::Result<()> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let meta = fs::symlink_metadata(path).map_err(at)?;
    if meta.dev() != device {
        return Ok(());
    }
    writeln!(
        out,
        "{}\t{}",
        escaped(shown.as_os_str()),
        line(path, &meta).map_err(at)?
    )?;
    if meta.is_dir() {
        let names: io::Result<Vec<_>> = fs::read_dir(path)
            .map_err(at)?
            .map(|entry| Ok(entry?.file_name()))
            .collect();
        let mut names = names.map_err(at)?;
        names.sort();
        for name in names {
            list(&path.join(&name), &shown.join(&name), device, out)?;
        }
    }
    Ok(())
}

fn line(path: &Path, meta: &Metadata) -> io::Result<String> {
    let kind = meta.file_type();
    let letter = if kind.is_dir() {
        'd'
    } else if kind.is_file() {
        'f'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_fifo() {
        'p'
    } else if kind.is_char_device() {
        'c'
    } else if kind.is_block_device() {
        'b'
    } else {
        's'
    };
    let size = if kind.is_dir() { 0 } else { meta.size() };
    let mut line = format!(
        "{letter} {:04o} {}:{} {size} {}.{:09}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    let wrote = if kind.is_char_device() || kind.is_block_device() {
        write!(line, " rdev={:x}", meta.rdev())
    } else if kind.is_symlink() {
        write!(line, " -> {}", escaped(fs::read_link(path)?.as_os_str()))
    } else if kind.is_file() {
        write!(line, " sha256={}", sha256(path)?)
    } else {
        Ok(())
    };
    wrote.map_err(io::Error::other)?;
    line.push_str(&xattrs(path)?);
    Ok(line)
}

fn xattrs(path: &Path) -> io::Result<String> {
    let mut pairs = Vec::new();
    for name in xattr::list(path)? {
        let value = xattr::get(path, &name)?.unwrap_or_default();
        pairs.push(format!(
            " {}={}",
            escaped(&name),
            escaped(OsStr::from_bytes(&value))
        ));
    }
    pairs.sort();
    Ok(pairs.concat())
}

fn sha256(path: &Path) -> io::Result<String> {
    let (mut hash, mut file, mut buffer) = (Sha256::new(), fs::File::open(path)?, vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Bytes outside printable ASCII as `\xNN`, so that a path is one word of one line.
fn escaped(bytes: &OsStr) -> String {
    let escape = |&byte: &u8| match byte {
        b'\\' => "\\\\".to_owned(),
        0x21..=0x7e => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.as_bytes().iter().map(escape).collect()
}
