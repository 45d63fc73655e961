//! Is what of the host is to be mounted there?

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::Error;
use super::spec::mounts::{Asked, Missing};

fn require_device(source: &Path) -> Result<(), Error> {
    let not_device = |why| Error::Device {
        path: source.into(),
        why,
    };
    let kind = fs::metadata(source).map_err(not_device)?.file_type();
    match kind.is_char_device() || kind.is_block_device() {
        true => Ok(()),
        false => Err(not_device(io::Error::other("not a device node"))),
    }
}

/// `-v` makes a missing directory, as Docker does; `--mount` refuses; `--device` is for devices.
pub(super) fn prepare(mounts: &[Asked]) -> Result<(), Error> {
    for asked in mounts {
        let bind = match asked {
            Asked::Bind(bind) => bind,
            Asked::Device { source, .. } => {
                require_device(source)?;
                continue;
            }
            Asked::Tmpfs { .. } => continue,
        };
        let io = |source| Error::Io {
            action: "look at",
            path: bind.source.clone(),
            source,
        };
        match fs::metadata(&bind.source) {
            Ok(_) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            Err(_) if bind.missing == Missing::Refuse => return Err(Error::BindSource(bind.source.clone())),
            Err(_) => fs::create_dir_all(&bind.source).map_err(|source| Error::Io {
                action: "create",
                path: bind.source.clone(),
                source,
            })?,
        }
    }
    Ok(())
}
