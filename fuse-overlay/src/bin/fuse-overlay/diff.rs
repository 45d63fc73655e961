//! What is in the upper that the layers do not have.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use fuse_overlay::stack;
use fuse_overlay::union::{Difference, Tree};

use super::Options;

pub(super) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let tree = open(options)?;
    match options.tar.as_deref() {
        None => print(&tree, &mut BufWriter::new(io::stdout().lock())),
        Some(path) if path == Path::new("-") => {
            Ok(tree.write_layer(BufWriter::new(io::stdout().lock()))?.flush()?)
        }
        Some(path) => {
            let failed = |error| format!("{}: {error}", path.display());
            let file = File::create(path).map_err(failed)?;
            let written = tree.write_layer(BufWriter::new(file)).map_err(failed)?;
            let file = written.into_inner().map_err(|error| failed(error.into_error()))?;
            Ok(file.sync_all().map_err(failed)?)
        }
    }
}

fn print(tree: &Tree, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    // The walk knows errnos alone; what the writer said is kept beside.
    let mut written = Ok(());
    let walked = tree.differences(&mut |differing| {
        let letter = match differing.how {
            Difference::Added => 'A',
            Difference::Changed => 'C',
            Difference::Deleted => 'D',
        };
        // One line each, whatever the name holds.
        written = writeln!(out, "{letter} /{}", differing.path.escape_ascii());
        match &written {
            Ok(()) => Ok(()),
            Err(_) => Err(nix::errno::Errno::EIO.into()),
        }
    });
    written?;
    walked?;
    Ok(out.flush()?)
}

/// The tree as it is now, mounted or not.
pub(super) fn open(options: &Options) -> Result<Tree, Box<dyn Error>> {
    let indexes = options.indexes().ok_or("--upper is missing")?;
    Tree::snapshot(options.upper()?, || Ok(stack::open(&options.layers, &indexes)?))
}
