//! Who ends the processes of a container that has no pid namespace of its own, if the supervisor is killed? A process that
//! waits for that, and for nothing else. There is none for other containers: of them the kernel ends all with init.

use std::io;
use std::os::fd::AsFd as _;
use std::process::Child;

use crate::containers::process::{self, Process};
use crate::containers::role;
use crate::containers::runtime::Crowd;

/// The name under which it is executed; then come the supervisor's pid and start, and the processes' mark.
const NAME: &str = "bryo-warden";

/// A warden at work.
#[derive(Debug)]
pub(super) struct Warden(Child);

impl Warden {
    /// Starts it for these processes. This one is the supervisor.
    pub(super) fn start(crowd: &Crowd) -> io::Result<Warden> {
        let own = Process::own()?;
        let mut command = role::command(NAME);
        command.args([&own.pid.to_string(), &own.start.to_string(), crowd.mark()]);
        if let Some(namespace) = crowd.namespace()? {
            command.stdin(namespace);
        }
        Ok(Warden(command.spawn()?))
    }
}

impl Drop for Warden {
    /// The supervisor has ended them itself.
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The warden's life, if this process was started as one: gives its exit code.
pub fn warden() -> Option<u8> {
    let mut words = role::arguments(NAME)?;
    // What the user's shell had open is not for it. A kernel that cannot close them leaves them.
    let _ = crate::sys::close_all_from(3);
    let supervisor = words.next().zip(words.next());
    let mark = words.next()?;
    let namespace = io::stdin().as_fd().try_clone_to_owned();
    let crowd = Crowd::new(mark, namespace.ok());
    Some(u8::from(!watch(supervisor, &crowd)))
}

fn watch(supervisor: Option<(String, String)>, crowd: &Crowd) -> bool {
    let supervisor = supervisor.and_then(|(pid, start)| {
        let now = Process::of(pid.parse().ok()?)?;
        (start.parse() == Ok(now.start)).then_some(now)
    });
    if let Some(pidfd) = supervisor.and_then(|process| process.open().ok().flatten()) {
        // An error is as good as its end: nobody else would be there for it.
        let _ = process::ends(&pidfd, None);
    }
    crowd.end()
}
