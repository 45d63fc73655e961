//! Signals by number: the crates' types name those of POSIX alone, not the real-time ones.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use super::check;

/// Sends a signal to the process that a descriptor holds.
///
/// # Errors
/// pidfd_send_signal(2)'s.
pub(crate) fn send(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: numbers, and no siginfo, which the kernel then makes itself.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// Sends a signal to a child that is not reaped yet, so that its number is nobody else's.
///
/// # Errors
/// kill(2)'s.
pub(crate) fn send_to_child(child: Pid, number: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes numbers.
    check(libc::c_long::from(unsafe { libc::kill(child.as_raw(), number) })).map(drop)
}

/// The set with the real-time signals that the C library leaves to programs.
pub(crate) fn with_realtime(set: &SigSet) -> SigSet {
    let mut raw = *set.as_ref();
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: the set is initialised, and these numbers are signals.
        unsafe { libc::sigaddset(&raw mut raw, number) };
    }
    // SAFETY: it was initialised by nix, and sigaddset(3) keeps it so.
    unsafe { SigSet::from_sigset_t_unchecked(raw) }
}

/// Waits for one of these signals, which are blocked; gives its number.
///
/// # Errors
/// sigwaitinfo(2)'s.
pub(crate) fn next(set: &SigSet) -> io::Result<i32> {
    loop {
        // SAFETY: the set is initialised; what else is known of the signal is not asked for.
        let number = check(libc::c_long::from(unsafe {
            libc::sigwaitinfo(set.as_ref(), ptr::null_mut())
        }));
        match number {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            number => return number.map(|number| number as i32),
        }
    }
}
