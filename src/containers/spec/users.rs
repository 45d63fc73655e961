//! Which users does a container have, and which of them is the caller? `--userns`.

use crate::host::{IdMaps, Probe};

/// `--userns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Users {
    /// The caller is root.
    #[default]
    Root,
    /// Podman's `keep-id`: the caller is who they are outside, or has these ids.
    Keep {
        /// `uid=`.
        uid: Option<u32>,
        /// `gid=`.
        gid: Option<u32>,
    },
}

impl Users {
    /// Reads the flag.
    ///
    /// # Errors
    /// One line: what it may be.
    pub fn parse(text: &str) -> Result<Users, String> {
        let (mode, options) = match text.split_once(':') {
            Some((mode, options)) => (mode, Some(options)),
            None => (text, None),
        };
        match (mode, options) {
            ("" | "host" | "private", None) => return Ok(Users::Root),
            ("keep-id", _) => {}
            _ => return Err(refusal(mode).into()),
        }
        let (mut uid, mut gid) = (None, None);
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let id = value.parse().ok().filter(|id| i32::try_from(*id).is_ok());
            match (key, id) {
                ("uid", Some(id)) => uid = Some(id),
                ("gid", Some(id)) => gid = Some(id),
                _ => return Err("keep-id takes uid=NUMBER and gid=NUMBER".into()),
            }
        }
        Ok(Users::Keep { uid, gid })
    }

    /// The id maps that this machine has for it.
    pub fn maps(self, host: &Probe) -> IdMaps {
        match self.caller((host.uid, host.gid)) {
            None => host.id_maps(),
            Some((uid, gid)) => host.kept_maps(uid, gid),
        }
    }

    /// Who the caller, outside this user and group, is inside, if it is not root.
    pub fn caller(self, own: (u32, u32)) -> Option<(u32, u32)> {
        match self {
            Users::Root => None,
            Users::Keep { uid, gid } => Some((uid.unwrap_or(own.0), gid.unwrap_or(own.1))),
        }
    }
}

fn refusal(mode: &str) -> &'static str {
    match mode {
        "container" | "ns" => "another container's cannot be named: those of the same ids share one anyway",
        "auto" | "nomap" => {
            "it would want a part of the id range for each container: use keep-id, or leave it out"
        }
        _ => "host (its root is you outside, as without this flag) or keep-id[:uid=NUMBER,gid=NUMBER]",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_their_names() {
        let keep = |uid, gid| Ok(Users::Keep { uid, gid });
        for text in ["", "host", "private"] {
            assert_eq!(Users::parse(text), Ok(Users::Root));
        }
        assert_eq!(Users::parse("keep-id"), keep(None, None));
        assert_eq!(Users::parse("keep-id:uid=5"), keep(Some(5), None));
        assert_eq!(Users::parse("keep-id:gid=0,uid=999"), keep(Some(999), Some(0)));
        for text in [
            "auto",
            "nomap",
            "container:x",
            "keep-ids",
            "keep-id:",
            "keep-id:uid",
            "keep-id:uid=-1",
            "keep-id:uid=4294967295",
            "keep-id:size=3",
        ] {
            assert!(Users::parse(text).is_err(), "{text}");
        }
    }
}
