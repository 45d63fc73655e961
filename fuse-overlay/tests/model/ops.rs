//! Random operations. Names come from few letters, so that they collide.

use fuse_overlay::attr::Time;
use fuse_overlay::union::{Allocate, Caller, Rename, SetXattr};
use proptest::prelude::*;

pub const UMASK: u16 = 0o022;
pub const UID: u32 = 1000;
pub const GID: u32 = 100;

pub const CALLER: Caller = Caller {
    uid: UID,
    gid: GID,
    umask: UMASK,
    unique: 9,
};

/// Names from the root down.
pub type Path = Vec<&'static str>;

#[derive(Clone, Debug)]
pub enum Op {
    Create(Path, u16),
    Mkdir(Path, u16),
    Symlink(Path, &'static str),
    Fifo(Path),
    Whiteout(Path),
    TmpFile(Path),
    Link(File, Path),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path, Rename),
    Write {
        file: File,
        offset: usize,
        length: usize,
        byte: u8,
        kill_priv: bool,
    },
    Truncate(File, usize),
    Allocate(File, Allocate, usize, usize),
    Chmod(File, u16),
    Chown(File, u32, u32, bool),
    /// chown(2) that names nobody, or, without a change time, what comes before a write.
    TakePrivileges(File, Option<Time>),
    SetTimes(File, Time),
    SetXattr(File, &'static str, usize, SetXattr),
    RemoveXattr(File, &'static str),
    Open(Path),
    Close(usize),
    Sync,
    /// Meanwhile, these.
    Checkpoint(Vec<Op>),
    /// A checkpoint with a list, as when the layer is closed, however small it is.
    List,
    /// What says where the list lies is lost.
    LoseList,
    /// The server is killed, and another opens the layer.
    Remount,
}

impl Op {
    /// Writes so many bytes, as programs do.
    pub fn write(file: File, offset: usize, length: usize) -> Op {
        Op::Write {
            file,
            offset,
            length,
            byte: 5,
            kill_priv: true,
        }
    }

    /// Is it about the layer as it is kept, not about the tree?
    pub fn is_upkeep(&self) -> bool {
        matches!(
            self,
            Op::Sync | Op::Checkpoint(_) | Op::List | Op::LoseList | Op::Remount
        )
    }
}

/// Which file an operation is about: the one at a path, or one of those that are open.
#[derive(Clone, Debug)]
pub enum File {
    At(Path),
    Open(usize),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

pub fn path() -> impl Strategy<Value = Path> {
    prop_oneof![
        4 => prop::collection::vec(name(), 1..=1),
        4 => prop::collection::vec(name(), 2..=2),
        2 => prop::collection::vec(name(), 3..=3),
    ]
}

fn file() -> impl Strategy<Value = File> {
    prop_oneof![3 => path().prop_map(File::At), 1 => (0..4usize).prop_map(File::Open)]
}

/// Offsets and lengths around page borders.
fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![
        prop::sample::select(vec![
            0usize, 1, 100, 4095, 4096, 4097, 5000, 8191, 8192, 12_288, 20_000
        ]),
        0..30_000usize,
    ]
}

fn xattr() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["user.x", "user.y", "security.capability"])
}

pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        55 => simple(),
        2 => prop::collection::vec(simple(), 0..12).prop_map(Op::Checkpoint),
        2 => Just(Op::List),
        1 => Just(Op::LoseList),
        3 => Just(Op::Remount),
    ]
}

/// What can happen during a checkpoint.
pub fn simple() -> impl Strategy<Value = Op> {
    let rename = prop::sample::select(vec![
        Rename::Replace,
        Rename::NoReplace,
        Rename::Exchange,
        Rename::Whiteout,
        Rename::WhiteoutNoReplace,
    ]);
    let allocate = prop::sample::select(vec![
        Allocate::Grow,
        Allocate::KeepSize,
        Allocate::PunchHole,
        Allocate::ZeroGrow,
        Allocate::ZeroKeepSize,
    ]);
    let how = prop::sample::select(vec![
        SetXattr::Any,
        SetXattr::Create,
        SetXattr::Replace,
        SetXattr::Never,
    ]);
    let perm = prop::sample::select(vec![0o644u16, 0o777, 0o4755, 0o2755, 0o6711, 0o2644, 0o1777, 0]);
    prop_oneof![
        4 => (path(), perm.clone()).prop_map(|(p, m)| Op::Create(p, m)),
        3 => (path(), perm.clone()).prop_map(|(p, m)| Op::Mkdir(p, m)),
        1 => (path(), prop::sample::select(vec!["a", "../b/c"])).prop_map(|(p, t)| Op::Symlink(p, t)),
        1 => path().prop_map(Op::Fifo),
        1 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::TmpFile),
        3 => (file(), path()).prop_map(|(f, p)| Op::Link(f, p)),
        3 => path().prop_map(Op::Unlink),
        2 => path().prop_map(Op::Rmdir),
        5 => (path(), path(), rename).prop_map(|(a, b, how)| Op::Rename(a, b, how)),
        6 => (file(), bytes(), bytes(), 1..255u8, any::<bool>()).prop_map(
            |(file, offset, length, byte, kill_priv)| Op::Write { file, offset, length, byte, kill_priv }
        ),
        3 => (file(), bytes()).prop_map(|(f, n)| Op::Truncate(f, n)),
        3 => (file(), allocate, bytes(), bytes()).prop_map(|(f, how, o, l)| Op::Allocate(f, how, o, l)),
        2 => (file(), perm).prop_map(|(f, m)| Op::Chmod(f, m)),
        2 => (file(), 0..3u32, 0..3u32, any::<bool>()).prop_map(|(f, u, g, k)| Op::Chown(f, u, g, k)),
        2 => (file(), prop::option::of(-5..5i64)).prop_map(|(f, sec)| {
            Op::TakePrivileges(f, sec.map(|sec| Time { sec, nsec: 7 }))
        }),
        1 => (file(), -5..5i64).prop_map(|(f, sec)| Op::SetTimes(f, Time { sec, nsec: 7 })),
        2 => (file(), xattr(), 0..300usize, how).prop_map(|(f, n, l, how)| Op::SetXattr(f, n, l, how)),
        1 => (file(), xattr()).prop_map(|(f, n)| Op::RemoveXattr(f, n)),
        2 => path().prop_map(Op::Open),
        1 => (0..4usize).prop_map(Op::Close),
        1 => Just(Op::Sync),
    ]
}

/// An entry of a layer's tar.
#[derive(Clone, Debug)]
pub enum LayerEntry {
    Dir(Path),
    File(Path, usize),
    Symlink(Path),
    HardLink(Path, Path),
    Whiteout(Path),
    Opaque(Path),
}

pub fn layers() -> impl Strategy<Value = Vec<Vec<LayerEntry>>> {
    let entry = prop_oneof![
        4 => path().prop_map(LayerEntry::Dir),
        6 => (path(), bytes()).prop_map(|(p, n)| LayerEntry::File(p, n)),
        1 => path().prop_map(LayerEntry::Symlink),
        1 => (path(), path()).prop_map(|(p, t)| LayerEntry::HardLink(p, t)),
        1 => path().prop_map(LayerEntry::Whiteout),
        1 => path().prop_map(LayerEntry::Opaque),
    ];
    prop::collection::vec(prop::collection::vec(entry, 1..8), 1..3)
}
