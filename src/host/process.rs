//! Is there a process of this number, and since when? Whether it is there is one answer, whether it could be asked another: who
//! has no descriptor left must not take the living for dead.

use std::fs;
use std::io::{self, ErrorKind};

/// What the kernel says of a process of this pid namespace, from its state on, field 3 of proc_pid_stat(5); `None` if there is
/// none. The field before, the program's name, may hold anything, bytes that are no text, too.
///
/// # Errors
/// Its record in /proc cannot be read.
pub fn stat(pid: i32) -> io::Result<Option<String>> {
    let stat = match fs::read(format!("/proc/{pid}/stat")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // It ended between open and read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        stat => stat?,
    };
    let name = stat.iter().rposition(|byte| *byte == b')');
    let rest = name
        .and_then(|name| stat.get(name + 1..))
        .and_then(|rest| str::from_utf8(rest).ok());
    Ok(Some(rest.ok_or(ErrorKind::InvalidData)?.to_owned()))
}

/// When it started, in clock ticks since boot (field 22); `None` if there is none.
///
/// # Errors
/// Its record in /proc cannot be read.
pub fn start(pid: i32) -> io::Result<Option<u64>> {
    let Some(stat) = stat(pid)? else {
        return Ok(None);
    };
    let field = stat.split_ascii_whitespace().nth(19);
    let start = field.and_then(|text| text.parse().ok());
    Ok(Some(start.ok_or(ErrorKind::InvalidData)?))
}

/// When this process started.
///
/// # Errors
/// Its record in /proc cannot be read.
pub fn own_start() -> io::Result<u64> {
    let start = start(std::process::id().cast_signed())?;
    Ok(start.ok_or(ErrorKind::NotFound)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_no_error() {
        // Above the greatest that a kernel gives (PID_MAX_LIMIT).
        assert_eq!(start(1 << 23).unwrap(), None);
        assert!(own_start().unwrap() > 0);
    }

    #[test]
    fn a_name_may_be_anything() {
        let before = own_start().unwrap();
        let (said, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_name(c"\xff) (\xd0").unwrap();
            told.recv().unwrap();
        });
        let tid = || {
            let tasks = fs::read_dir("/proc/self/task").unwrap();
            let mut tasks = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
            tasks
                .find(|tid| fs::read(format!("/proc/{tid}/comm")).is_ok_and(|name| name.starts_with(b"\xff")))
        };
        let tid = loop {
            if let Some(tid) = tid() {
                break tid;
            }
        };
        assert!(start(tid.parse().unwrap()).unwrap().unwrap() >= before);
        said.send(()).unwrap();
        thread.join().unwrap();
    }
}
