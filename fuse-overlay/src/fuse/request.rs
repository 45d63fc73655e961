//! What does a message of the kernel say? Bytes → a typed [`Request`]; names are checked here, once.

use nix::errno::Errno;
use zerocopy::FromBytes;

use super::wire::{self, InHeader, fattr, opcode};
use crate::attr::{Ino, Time};
use crate::name::{Name, NameError};
use crate::union::{Allocate, Caller, Rename, SetAttr, SetGroupId, SetTime, SetXattr};

/// One request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) header: InHeader,
    pub(super) operation: Operation<'a>,
}

/// What is asked for. The inode that it is asked of is the header's.
#[derive(Debug)]
pub(super) enum Operation<'a> {
    Lookup {
        name: &'a Name,
    },
    Forget {
        count: u64,
    },
    ForgetMany {
        inodes: Vec<(Ino, u64)>,
    },
    GetAttr {
        /// On behalf of an open file: before a write(2), not for a stat(2).
        by_file: bool,
    },
    SetAttr(SetAttr),
    /// SETATTR that sets nothing, or the change time alone: see [`crate::union::Tree::take_privileges`].
    TakePrivileges {
        ctime: Option<Time>,
    },
    ReadLink,
    Symlink {
        name: &'a Name,
        target: &'a [u8],
    },
    Mknod {
        name: &'a Name,
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    Mkdir {
        name: &'a Name,
        perm: u16,
        umask: u32,
    },
    TmpFile {
        perm: u16,
        umask: u32,
    },
    Unlink {
        name: &'a Name,
    },
    Rmdir {
        name: &'a Name,
    },
    Rename {
        from: &'a Name,
        to_dir: Ino,
        to: &'a Name,
        how: Rename,
    },
    Link {
        ino: Ino,
        name: &'a Name,
    },
    Read {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        data: &'a [u8],
        kill_priv: bool,
        /// Pages of the kernel's, whose writer has had its answer.
        cached: bool,
    },
    ReadDir {
        cookie: u64,
        size: u32,
    },
    ReadDirPlus {
        cookie: u64,
        size: u32,
    },
    Fallocate {
        how: Allocate,
        offset: u64,
        length: u64,
    },
    Fsync,
    GetXattr {
        name: &'a [u8],
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        how: SetXattr,
        set_gid: SetGroupId,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    Statfs,
    /// The end of what TMPFILE opened; nothing is kept for it.
    Release,
    Destroy,
    /// Answered ENOSYS, by which the kernel learns, once for all, to do without. OPEN, OPENDIR, CREATE and FLUSH:
    /// there are no handles. LSEEK: under writeback SEEK_DATA would not see dirty pages, the kernel's own answer does.
    /// COPY_FILE_RANGE: it copies through the page cache instead. ACCESS, locks: its own business. INTERRUPT: nothing
    /// that we do waits for anybody.
    Unsupported,
    /// An answer to a notification, which itself wants none.
    Reply,
}

impl<'a> Request<'a> {
    /// Reads a message as it came from the device.
    ///
    /// # Errors
    /// The header, which an error is to be sent to, and the errno; `None` if there is not even a header.
    pub(super) fn decode(message: &'a [u8]) -> Result<Request<'a>, (Option<InHeader>, Errno)> {
        let (header, body) = InHeader::read_from_prefix(message).map_err(|_| (None, Errno::EIO))?;
        let mut body = Body(body);
        match body.operation(header.opcode) {
            Ok(operation) => Ok(Request { header, operation }),
            Err(errno) => Err((Some(header), errno)),
        }
    }

    /// The inode that is asked.
    pub(super) fn ino(&self) -> Ino {
        Ino(self.header.nodeid)
    }

    /// Who asks.
    pub(super) fn caller(&self) -> Caller {
        let umask = match self.operation {
            Operation::Mknod { umask, .. }
            | Operation::Mkdir { umask, .. }
            | Operation::TmpFile { umask, .. } => umask,
            _ => 0,
        };
        Caller {
            uid: self.header.uid,
            gid: self.header.gid,
            umask: (umask & 0o777) as u16,
            unique: self.header.unique,
        }
    }
}

impl Operation<'_> {
    /// The directories in which names come or go, if it is sent to `ino`. The kernel forgets their attributes by itself,
    /// but then takes those of an older answer that reaches it late.
    pub(super) fn changed_directories(&self, ino: Ino) -> [Option<Ino>; 2] {
        use Operation::*;
        match self {
            Symlink { .. } | Mknod { .. } | Mkdir { .. } | Link { .. } | Unlink { .. } | Rmdir { .. } => {
                [Some(ino), None]
            }
            Rename { to_dir, .. } => [Some(ino), Some(*to_dir)],
            _ => [None, None],
        }
    }

    /// Will it leave something that is not yet durable?
    pub(super) fn changes_tree(&self) -> bool {
        use Operation::*;
        match self {
            SetAttr(_)
            | TakePrivileges { .. }
            | Symlink { .. }
            | Mknod { .. }
            | Mkdir { .. }
            | TmpFile { .. }
            | Unlink { .. } => true,
            Rmdir { .. } | Rename { .. } | Link { .. } | Write { .. } | Fallocate { .. } => true,
            SetXattr { .. } | RemoveXattr { .. } => true,
            Lookup { .. } | Forget { .. } | ForgetMany { .. } | GetAttr { .. } | ReadLink | Read { .. } => {
                false
            }
            ReadDir { .. } | ReadDirPlus { .. } | Fsync | GetXattr { .. } | ListXattr { .. } => false,
            Statfs | Release | Destroy | Unsupported | Reply => false,
        }
    }
}

/// The rest of a message, eaten from the front.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn operation(&mut self, opcode: u32) -> Result<Operation<'a>, Errno> {
        Ok(match opcode {
            opcode::LOOKUP => Operation::Lookup { name: self.name()? },
            opcode::FORGET => Operation::Forget {
                count: self.take::<wire::ForgetIn>()?.nlookup,
            },
            opcode::BATCH_FORGET => self.forget_many()?,
            opcode::GETATTR => Operation::GetAttr {
                by_file: self.take::<wire::GetAttrIn>()?.getattr_flags & wire::GETATTR_FH != 0,
            },
            opcode::SETATTR => {
                let args: wire::SetAttrIn = self.take()?;
                match args.valid & !(fattr::FH | fattr::LOCKOWNER | fattr::CTIME) {
                    0 => Operation::TakePrivileges {
                        ctime: set_attr(&args).ctime,
                    },
                    _ => Operation::SetAttr(set_attr(&args)),
                }
            }
            opcode::READLINK => Operation::ReadLink,
            opcode::SYMLINK => Operation::Symlink {
                name: self.name()?,
                target: self.string()?,
            },
            opcode::MKNOD => {
                let args: wire::MknodIn = self.take()?;
                Operation::Mknod {
                    mode: args.mode,
                    rdev: args.rdev,
                    umask: args.umask,
                    name: self.name()?,
                }
            }
            opcode::MKDIR => {
                let args: wire::MkdirIn = self.take()?;
                Operation::Mkdir {
                    perm: perm(args.mode),
                    umask: args.umask,
                    name: self.name()?,
                }
            }
            opcode::TMPFILE => {
                // The name that follows means nothing.
                let args: wire::CreateIn = self.take()?;
                Operation::TmpFile {
                    perm: perm(args.mode),
                    umask: args.umask,
                }
            }
            opcode::UNLINK => Operation::Unlink { name: self.name()? },
            opcode::RMDIR => Operation::Rmdir { name: self.name()? },
            opcode::RENAME => {
                let args: wire::RenameIn = self.take()?;
                self.rename(args.newdir, 0)?
            }
            opcode::RENAME2 => {
                let args: wire::Rename2In = self.take()?;
                self.rename(args.newdir, args.flags)?
            }
            opcode::LINK => {
                let args: wire::LinkIn = self.take()?;
                Operation::Link {
                    ino: Ino(args.oldnodeid),
                    name: self.name()?,
                }
            }
            opcode::READ => {
                let args: wire::ReadIn = self.take()?;
                Operation::Read {
                    offset: args.offset,
                    size: args.size,
                }
            }
            opcode::WRITE => {
                let args: wire::WriteIn = self.take()?;
                let kill_priv = args.write_flags & wire::WRITE_KILL_SUIDGID != 0;
                Operation::Write {
                    offset: args.offset,
                    data: self.bytes(args.size)?,
                    kill_priv,
                    cached: args.write_flags & wire::WRITE_CACHE != 0,
                }
            }
            opcode::READDIR => {
                let args: wire::ReadIn = self.take()?;
                Operation::ReadDir {
                    cookie: args.offset,
                    size: args.size,
                }
            }
            opcode::READDIRPLUS => {
                let args: wire::ReadIn = self.take()?;
                Operation::ReadDirPlus {
                    cookie: args.offset,
                    size: args.size,
                }
            }
            opcode::FALLOCATE => {
                let args: wire::FallocateIn = self.take()?;
                Operation::Fallocate {
                    how: allocate(args.mode)?,
                    offset: args.offset,
                    length: args.length,
                }
            }
            opcode::FSYNC | opcode::FSYNCDIR => Operation::Fsync,
            opcode::GETXATTR => {
                let args: wire::GetXattrIn = self.take()?;
                Operation::GetXattr {
                    size: args.size,
                    name: self.string()?,
                }
            }
            opcode::LISTXATTR => Operation::ListXattr {
                size: self.take::<wire::GetXattrIn>()?.size,
            },
            opcode::SETXATTR => self.set_xattr()?,
            opcode::REMOVEXATTR => Operation::RemoveXattr { name: self.string()? },
            opcode::STATFS => Operation::Statfs,
            opcode::RELEASE => Operation::Release,
            opcode::DESTROY => Operation::Destroy,
            opcode::NOTIFY_REPLY => Operation::Reply,
            _ => Operation::Unsupported,
        })
    }

    fn take<T: FromBytes>(&mut self) -> Result<T, Errno> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Errno::EINVAL)?;
        self.0 = rest;
        Ok(value)
    }

    fn bytes(&mut self, len: u32) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(len as usize).ok_or(Errno::EINVAL)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Bytes up to a NUL.
    fn string(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Errno::EINVAL)?;
        let string = self.bytes(end as u32)?;
        self.bytes(1)?;
        Ok(string)
    }

    fn name(&mut self) -> Result<&'a Name, Errno> {
        Name::new(self.string()?).map_err(|error| match error {
            NameError::TooLong => Errno::ENAMETOOLONG,
            NameError::Empty | NameError::Dots | NameError::Separator => Errno::EINVAL,
        })
    }

    fn rename(&mut self, to_dir: u64, flags: u32) -> Result<Operation<'a>, Errno> {
        const BOTH: u32 = libc::RENAME_WHITEOUT | libc::RENAME_NOREPLACE;
        let how = match flags {
            0 => Rename::Replace,
            libc::RENAME_NOREPLACE => Rename::NoReplace,
            libc::RENAME_EXCHANGE => Rename::Exchange,
            libc::RENAME_WHITEOUT => Rename::Whiteout,
            BOTH => Rename::WhiteoutNoReplace,
            _ => return Err(Errno::EINVAL),
        };
        Ok(Operation::Rename {
            from: self.name()?,
            to_dir: Ino(to_dir),
            to: self.name()?,
            how,
        })
    }

    fn forget_many(&mut self) -> Result<Operation<'a>, Errno> {
        let count = self.take::<wire::BatchForgetIn>()?.count as usize;
        // What the message holds, not what it claims, decides how much is set aside.
        let mut inodes = Vec::with_capacity(count.min(self.0.len() / size_of::<wire::ForgetOne>()));
        for _ in 0..count {
            let one: wire::ForgetOne = self.take()?;
            inodes.push((Ino(one.nodeid), one.nlookup));
        }
        Ok(Operation::ForgetMany { inodes })
    }

    fn set_xattr(&mut self) -> Result<Operation<'a>, Errno> {
        let args: wire::SetXattrIn = self.take()?;
        const BOTH: i32 = libc::XATTR_CREATE | libc::XATTR_REPLACE;
        let how = match args.flags as i32 {
            0 => SetXattr::Any,
            libc::XATTR_CREATE => SetXattr::Create,
            libc::XATTR_REPLACE => SetXattr::Replace,
            BOTH => SetXattr::Never,
            _ => return Err(Errno::EINVAL),
        };
        let set_gid = match args.setxattr_flags & wire::SETXATTR_ACL_KILL_SGID {
            0 => SetGroupId::Keep,
            _ => SetGroupId::Clear,
        };
        Ok(Operation::SetXattr {
            name: self.string()?,
            value: self.bytes(args.size)?,
            how,
            set_gid,
        })
    }
}

fn perm(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

fn set_attr(args: &wire::SetAttrIn) -> SetAttr {
    let has = |flag| args.valid & flag != 0;
    let time = |sec, nsec: u32| Time {
        sec,
        nsec: nsec.min(999_999_999),
    };
    let set_time = |set, now, at| match (has(set), has(now)) {
        (false, _) => None,
        (true, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::At(at)),
    };
    // Under HANDLE_KILLPRIV_V2 a truncation says whether the caller may keep set-id bits; a chown takes them always.
    let chown = has(fattr::UID) || has(fattr::GID);
    SetAttr {
        perm: has(fattr::MODE).then_some(perm(args.mode)),
        uid: has(fattr::UID).then_some(args.uid),
        gid: has(fattr::GID).then_some(args.gid),
        size: has(fattr::SIZE).then_some(args.size),
        atime: set_time(fattr::ATIME, fattr::ATIME_NOW, time(args.atime, args.atimensec)),
        mtime: set_time(fattr::MTIME, fattr::MTIME_NOW, time(args.mtime, args.mtimensec)),
        ctime: has(fattr::CTIME).then_some(time(args.ctime, args.ctimensec)),
        kill_priv: chown || has(fattr::KILL_SUIDGID),
    }
}

fn allocate(mode: u32) -> Result<Allocate, Errno> {
    const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
    match mode as i32 {
        0 => Ok(Allocate::Grow),
        KEEP_SIZE => Ok(Allocate::KeepSize),
        mode if mode == libc::FALLOC_FL_PUNCH_HOLE | KEEP_SIZE => Ok(Allocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Ok(Allocate::ZeroGrow),
        mode if mode == libc::FALLOC_FL_ZERO_RANGE | KEEP_SIZE => Ok(Allocate::ZeroKeepSize),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn message(opcode: u32, body: &[&[u8]]) -> Vec<u8> {
        let header = InHeader {
            opcode,
            unique: 2,
            nodeid: 1,
            uid: 7,
            ..InHeader::default()
        };
        [header.as_bytes(), &body.concat()].concat()
    }

    fn errno(opcode: u32, body: &[&[u8]]) -> Option<Errno> {
        Request::decode(&message(opcode, body))
            .err()
            .map(|(_, errno)| errno)
    }

    #[test]
    fn a_name_is_checked_at_the_border() {
        assert_eq!(errno(opcode::LOOKUP, &[b"a\0"]), None);
        for bad in [&b"\0"[..], b"..\0", b".\0", b"a/b\0", b"unended"] {
            assert_eq!(errno(opcode::LOOKUP, &[bad]), Some(Errno::EINVAL));
        }
        assert_eq!(
            errno(opcode::UNLINK, &[&[b'n'; 256], b"\0"]),
            Some(Errno::ENAMETOOLONG)
        );
    }

    #[test]
    fn a_message_cut_anywhere_is_refused() {
        let args = wire::SetXattrIn {
            size: 5,
            ..Default::default()
        };
        let whole = message(opcode::SETXATTR, &[args.as_bytes(), b"user.x\0value"]);
        assert!(matches!(
            Request::decode(&whole).map(|r| r.operation),
            Ok(Operation::SetXattr {
                name: b"user.x",
                value: b"value",
                how: SetXattr::Any,
                set_gid: SetGroupId::Keep
            })
        ));
        for end in 0..whole.len() {
            let Err((header, _)) = Request::decode(&whole[..end]) else {
                panic!("cut at {end}")
            };
            assert_eq!(header.is_some(), end >= size_of::<InHeader>());
        }
    }

    #[test]
    fn a_claimed_count_sets_nothing_aside() {
        let args = wire::BatchForgetIn {
            count: u32::MAX,
            dummy: 0,
        };
        assert_eq!(
            errno(opcode::BATCH_FORGET, &[args.as_bytes()]),
            Some(Errno::EINVAL)
        );
    }

    #[test]
    fn chown_takes_set_id_bits_and_truncation_only_when_told() {
        let kill = |valid| {
            set_attr(&wire::SetAttrIn {
                valid,
                ..Default::default()
            })
            .kill_priv
        };
        assert!(kill(fattr::UID) && kill(fattr::GID) && kill(fattr::SIZE | fattr::KILL_SUIDGID));
        assert!(!kill(fattr::SIZE) && !kill(fattr::MODE));
    }

    #[test]
    fn chown_to_nobody_is_told_by_what_it_leaves_out() {
        let asked = |valid| {
            let args = wire::SetAttrIn {
                valid,
                ctime: 5,
                ..Default::default()
            };
            let bytes = message(opcode::SETATTR, &[args.as_bytes()]);
            match Request::decode(&bytes).unwrap().operation {
                Operation::TakePrivileges { ctime } => Some(ctime.map(|time| time.sec)),
                _ => None,
            }
        };
        assert_eq!(asked(fattr::CTIME), Some(Some(5)));
        assert_eq!(asked(fattr::FH | fattr::LOCKOWNER), Some(None));
        for more in [
            fattr::MODE,
            fattr::GID,
            fattr::SIZE,
            fattr::MTIME,
            fattr::KILL_SUIDGID,
        ] {
            assert_eq!(asked(fattr::CTIME | more), None);
        }
    }

    #[test]
    fn times_before_1970_stay_exact() {
        let args = wire::SetAttrIn {
            valid: fattr::MTIME,
            mtime: -2,
            mtimensec: 800_000_000,
            ..Default::default()
        };
        assert_eq!(
            set_attr(&args).mtime,
            Some(SetTime::At(Time {
                sec: -2,
                nsec: 800_000_000
            }))
        );
        let args = wire::SetAttrIn {
            valid: fattr::MTIME | fattr::MTIME_NOW,
            ..Default::default()
        };
        assert_eq!(set_attr(&args).mtime, Some(SetTime::Now));
    }

    #[test]
    fn unknown_flags_are_refused() {
        let args = wire::Rename2In {
            newdir: 1,
            flags: 8,
            padding: 0,
        };
        assert_eq!(
            errno(opcode::RENAME2, &[args.as_bytes(), b"a\0b\0"]),
            Some(Errno::EINVAL)
        );
        let args = wire::FallocateIn {
            mode: 8,
            ..Default::default()
        };
        assert_eq!(
            errno(opcode::FALLOCATE, &[args.as_bytes()]),
            Some(Errno::EOPNOTSUPP)
        );
    }

    #[test]
    fn opens_and_seeks_are_the_kernels_business() {
        for (opcode, name) in [
            (14, "OPEN"),
            (27, "OPENDIR"),
            (35, "CREATE"),
            (25, "FLUSH"),
            (46, "LSEEK"),
        ] {
            let bytes = message(opcode, &[&[0; 64]]);
            assert!(
                matches!(Request::decode(&bytes).unwrap().operation, Operation::Unsupported),
                "{name}"
            );
        }
    }
}
