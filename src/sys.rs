//! The tool's only unsafe code: each function a safe face over one thing that Rust cannot check.
#![allow(unsafe_code)]

pub(crate) mod net;
pub(crate) mod signal;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::ControlMessageOwned;
use nix::sys::stat::{Mode, umask as set_umask};
use nix::unistd::{Pid, getpid, getppid, setsid};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Runs `body` in the new process and ends it there with the returned code: nothing of the caller's stack runs twice.
fn run_and_exit(body: impl FnOnce() -> u8) -> ! {
    let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(125);
    // SAFETY: `_exit` has no preconditions; it skips the exit handlers, which belong to the parent.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Forks; the child runs `body` and exits with its result (125 if it panics).
///
/// # Errors
/// Fails if the process has other threads: their locks would be held for ever in the child.
pub(crate) fn fork(body: impl FnOnce() -> u8) -> io::Result<Pid> {
    require_one_thread()?;
    // SAFETY: the process has one thread, so no lock (the allocator's included) is held by a thread that the child lacks.
    match check(libc::c_long::from(unsafe { libc::fork() }))? {
        0 => run_and_exit(body),
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// As [`fork`], for a process that [`fork`] or [`fork_sibling`] made and that has started no thread: under a system call
/// filter the check, an unshare(2), is refused.
pub(crate) fn fork_again(body: impl FnOnce() -> u8) -> io::Result<Pid> {
    // SAFETY: as in `fork`; such a process begins with one thread, and init, the only caller, starts none.
    match check(libc::c_long::from(unsafe { libc::fork() }))? {
        0 => run_and_exit(body),
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// Forks a sibling: a process in new `namespaces` whose parent is the caller's parent. It runs `body` as in [`fork`].
///
/// # Errors
/// As in [`fork`], and clone(2)'s.
pub(crate) fn fork_sibling(namespaces: CloneFlags, body: impl FnOnce() -> u8) -> io::Result<Pid> {
    require_one_thread()?;
    let arguments = libc::clone_args {
        flags: (namespaces | CloneFlags::CLONE_PARENT).bits() as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0, // with CLONE_PARENT, the caller's own
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: without CLONE_VM and with no stack this is fork(2): the child gets a copy of this memory, and the process
    // has one thread. The C library's idea of its thread id is stale in the child, which uses no pthread calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &arguments, size_of_val(&arguments)) };
    match check(pid)? {
        0 => run_and_exit(body),
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// A thread that was joined may still be on its way out of the kernel (one in a thousand is), so it is waited for.
fn require_one_thread() -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        // SAFETY: `unshare` takes no pointers; of a process with several threads CLONE_THREAD is EINVAL, of others a no-op.
        match check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_THREAD) })) {
            Ok(_) => return Ok(()),
            // A container's seccomp filter refuses `unshare` altogether: init under it (`--init`) makes no threads.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(()),
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_micros(50)),
            Err(_) => {
                let reason = "a process with several threads cannot be forked";
                return Err(io::Error::other(reason));
            }
        }
    }
}

/// How mount_setattr(2) changes a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountAttributes {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub(crate) propagation: u64,
}

/// Whether a change concerns one mount or all below it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// This one.
    One,
    /// With all below.
    Tree,
}

/// Changes the mount at `mount` (Linux 5.12).
pub(crate) fn mount_setattr(mount: impl AsFd, depth: Depth, change: MountAttributes) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    let recursive = if depth == Depth::Tree {
        libc::AT_RECURSIVE
    } else {
        0
    };
    // SAFETY: path and struct outlive the call; the size given is the struct's.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &attributes,
            size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Marks every descriptor from `first` on to be closed by exec (Linux 5.11).
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the call only sets flags of descriptors.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Has a descriptor stay open over exec.
pub(crate) fn keep_on_exec(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: the call only sets a flag of the descriptor, if it is open.
    check(libc::c_long::from(unsafe {
        libc::fcntl(descriptor, libc::F_SETFD, 0)
    }))
    .map(drop)
}

/// Closes every descriptor from `first` on, for a process that will use none of its own any more.
///
/// The caller must not drop any owner of a closed descriptor afterwards; it is to end by `_exit` (as bodies of [`fork`]
/// do) with such owners forgotten.
pub(crate) fn close_all_from(first: RawFd) -> io::Result<()> {
    // SAFETY: no owner of these descriptors is used or dropped afterwards, as the caller promises.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}

/// Closes these descriptors, under the terms of [`close_all_from`].
pub(crate) fn close_each(descriptors: &[RawFd]) {
    for descriptor in descriptors {
        // SAFETY: as in `close_all_from`. Nothing is to be done about what was not open.
        unsafe { libc::close(*descriptor) };
    }
}

/// Closes every descriptor above 2 but `kept`, under the terms of [`close_all_from`].
pub(crate) fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut first: RawFd = 3;
    for descriptor in kept {
        if first < descriptor {
            // SAFETY: as in `close_all_from`.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, descriptor - 1, 0) })?;
        }
        first = first.max(descriptor + 1);
    }
    close_all_from(first)
}

/// Puts every signal back to its default action and unblocks all, as a new program expects.
pub(crate) fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid action; refusals (SIGKILL, SIGSTOP, the C library's own two) leave what is right.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is initialised before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Brings the loopback device of the process's network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: socket(2) gives a new descriptor, owned here alone.
    let socket = unsafe {
        OwnedFd::from_raw_fd(check(libc::c_long::from(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        )))? as RawFd)
    };
    // SAFETY: an all-zero ifreq is valid; the name is shorter than its field and ends with a zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request)
    }))
    .map(drop)
}

/// Has a command run in a session of its own, so without a terminal that it could ask anything at, with this umask, and
/// killed when the calling thread ends.
pub(crate) fn without_terminal(command: &mut Command, umask: Mode) {
    let parent = getpid();
    let prepare = move || {
        setsid()?;
        set_umask(umask);
        die_with(parent)
    };
    // SAFETY: between fork and exec it makes system calls only; nothing is allocated or locked.
    unsafe { command.pre_exec(prepare) };
}

/// Has this process killed when `parent` ends, which started it (its thread that did, PR_SET_PDEATHSIG(2const)). Allocates nothing.
///
/// # Errors
/// It may have ended before that.
pub(crate) fn die_with(parent: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    match getppid() == parent {
        true => Ok(()),
        false => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Makes `terminal` the controlling terminal of the calling session leader.
pub(crate) fn control_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(libc::c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0)
    }))
    .map(drop)
}

/// Gives the number of a pty: the name of its slave in its devpts.
pub(crate) fn pty_number(master: BorrowedFd<'_>) -> io::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int.
    check(libc::c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &mut number)
    }))?;
    Ok(number)
}

/// Sets a terminal's size in characters.
pub(crate) fn set_terminal_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads a winsize.
    check(libc::c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size)
    }))
    .map(drop)
}

/// Gives the user namespace's type and owner that `namespace` is: `(nstype, owner uid)` (ioctl_ns(2)).
pub(crate) fn user_namespace_owner(namespace: BorrowedFd<'_>) -> io::Result<(i32, u32)> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind = check(libc::c_long::from(unsafe {
        libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE as _)
    }))?;
    let mut owner: libc::uid_t = 0;
    // SAFETY: NS_GET_OWNER_UID writes one uid_t.
    check(libc::c_long::from(unsafe {
        libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID as _, &mut owner)
    }))?;
    Ok((kind as i32, owner))
}

/// Gives the user namespace that has power over `namespace` (ioctl_ns(2)).
pub(crate) fn owning_user_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: NS_GET_USERNS takes no argument and gives a new descriptor, owned here alone.
    unsafe {
        let user = libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _);
        Ok(OwnedFd::from_raw_fd(check(libc::c_long::from(user))? as RawFd))
    }
}

/// Installs a seccomp filter: classic BPF instructions of 8 bytes each, as seccomp(2) defines them. Processors' memory
/// disambiguation stays on, as runc has it: kernels before 5.16 would turn it off for whoever is filtered.
pub(crate) fn install_seccomp(filter: &[u8]) -> io::Result<()> {
    install_filter(filter, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW).map(drop)
}

/// The same for a filter that hands calls to another process, by the descriptor that this gives. Who waits for that one is
/// not disturbed by signals, but the deadly ones, where the kernel knows how (Linux 5.19): a call that was cut off would be
/// made again, though it was carried out.
pub(crate) fn install_listening_seccomp(filter: &[u8]) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let undisturbed = flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let descriptor = match install_filter(filter, undisturbed) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install_filter(filter, flags)?,
        installed => installed?,
    };
    // SAFETY: the kernel has just made it for this process; nobody else knows its number.
    let listener = unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) };
    // Caller and listener take turns, so best on one core: half the time of a call (Linux 6.6; before, slower).
    const SYNC_WAKE_UP: libc::c_ulong = 1; // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
    // SAFETY: the ioctl takes an integer.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _,
            SYNC_WAKE_UP,
        )
    };
    Ok(listener)
}

fn install_filter(filter: &[u8], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let instructions: Vec<libc::sock_filter> = filter
        .chunks_exact(8)
        .map(|word| libc::sock_filter {
            code: u16::from_ne_bytes([word[0], word[1]]),
            jt: word[2],
            jf: word[3],
            k: u32::from_ne_bytes([word[4], word[5], word[6], word[7]]),
        })
        .collect();
    let len = u16::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog {
        len,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that outlive the call; the kernel copies and checks them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) })
}

/// A system call that waits for an answer (seccomp_unotify(2)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notified {
    /// By which it is answered.
    pub(crate) id: u64,
    /// The calling thread, in this process's pid namespace; 0 if it has no number there.
    pub(crate) thread: i32,
    /// The call's number.
    pub(crate) number: i32,
    /// Its arguments, as they were in the registers.
    pub(crate) arguments: [u64; 6],
}

/// Waits for the next call. ENOENT if its caller was killed meanwhile.
pub(crate) fn next_notified(listener: BorrowedFd<'_>) -> io::Result<Notified> {
    /// The kernel writes as many bytes as its own struct has.
    #[repr(C)]
    struct Room {
        notification: libc::seccomp_notif,
        more: [u64; 32],
    }
    // SAFETY: all of it is integers.
    let mut room: Room = unsafe { std::mem::zeroed() };
    // SAFETY: the ioctl writes a seccomp_notif, which newer kernels may have made larger, but not by that much.
    check(libc::c_long::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV as _,
            &mut room,
        )
    }))?;
    let call = room.notification;
    Ok(Notified {
        id: call.id,
        thread: call.pid.cast_signed(),
        number: call.data.nr,
        arguments: call.data.args,
    })
}

/// Does the caller still wait? Else its thread's number may be another's by now.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the ioctl reads an integer.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &id) == 0 }
}

/// How a notified call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It was carried out.
    Done,
    /// It failed with this error number.
    Failed(i32),
    /// By the kernel, as if nobody had been asked.
    ByKernel,
}

/// Answers a call. ENOENT if its caller was killed meanwhile.
pub(crate) fn answer_notified(listener: BorrowedFd<'_>, id: u64, how: Answered) -> io::Result<()> {
    let (error, flags) = match how {
        Answered::Done => (0, 0),
        Answered::Failed(errno) => (-errno, 0),
        Answered::ByKernel => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error,
        flags,
    };
    // SAFETY: the ioctl reads a seccomp_notif_resp, whose size is part of the ABI.
    check(libc::c_long::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &answer)
    }))
    .map(drop)
}

/// Starts to write a part of a file to the disk, from `offset` on, and waits for nothing.
pub(crate) fn start_writeback(file: BorrowedFd<'_>, offset: u64, length: u64) {
    let (offset, length) = (offset as libc::off64_t, length as libc::off64_t);
    // SAFETY: sync_file_range(2) takes a descriptor and numbers.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Takes the descriptors that a control message delivered.
pub(crate) fn received(message: ControlMessageOwned) -> Vec<OwnedFd> {
    let ControlMessageOwned::ScmRights(descriptors) = message else {
        return Vec::new();
    };
    // SAFETY: the kernel has just made them for this process, and the consumed message was all that knew their numbers.
    descriptors
        .into_iter()
        .map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) })
        .collect()
}

/// Ends the process at once, without exit handlers: they belong to the process that it was forked from.
pub(crate) fn exit(code: u8) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Drops a capability, by its number, from the bounding set.
pub(crate) fn drop_from_bounding_set(capability: u8) -> io::Result<()> {
    // SAFETY: PR_CAPBSET_DROP takes an integer.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0)
    }))
    .map(drop)
}
