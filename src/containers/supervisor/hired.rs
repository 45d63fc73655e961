//! How does a program come to carry a container's packets (`--network pasta`, `slirp4netns`)? This program, executed anew, binds
//! itself to the supervisor's life, gives up what it does not need, and becomes it. It joins the container's namespaces itself.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, pipe2};
use serde_json::{Value, json};

use super::confine;
use super::stdio::becomes_readable;
use crate::containers::attach;
use crate::containers::network::Hire;
use crate::containers::network::program::Kind;
use crate::containers::role;
use crate::line::chain;
use crate::net::{Port, Protocol};
use crate::sys;

/// The name under which it is executed.
const NAME: &str = "bryo-hire";

/// How long it may take to be ready, or to answer, on a machine that is busy: the supervisor hears nobody meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the name of the socket ends with by which slirp4netns is told of ports.
const PORTS: &str = ".ports";

/// What they say of themselves, and pasta where there is no syslog.
const NOISE: [&str; 2] = ["WARNING", "Failed to send "];

/// Most of an answer, and of what is told of what it said.
const MOST_ANSWER: u64 = 4096;
const MOST_SAID: usize = 400;

/// Why a program does not carry a container's packets.
#[derive(Debug, thiserror::Error)]
pub(super) enum HireError {
    #[error("cannot start {program}: {source}")]
    Start {
        program: &'static str,
        source: io::Error,
    },
    #[error("{program} cannot make the container's network: {said}")]
    Ended { program: &'static str, said: String },
    #[error("{program} has not made the container's network within {PATIENCE:?}")]
    Slow { program: &'static str },
    #[error("slirp4netns does not publish port {port}: {why}")]
    Port { port: SocketAddr, why: String },
}

/// A program at work.
pub(super) struct Hired {
    pub(super) child: Child,
    pub(super) pidfd: OwnedFd,
    pub(super) said: Said,
}

/// What a program has to say: errors, most of all. Nobody reads it while it works, and it does not wait for that.
pub(super) struct Said {
    text: File,
    /// By which it says that it is ready; its end ends slirp4netns.
    ready: File,
}

impl Said {
    /// All of it, in one line.
    pub(super) fn line(&mut self) -> String {
        let mut bytes = [0; 1 << 16];
        // Nothing, or no more: the pipe does not block.
        let length = self.text.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        let lines = text.lines().map(str::trim);
        let lines =
            lines.filter(|line| !line.is_empty() && !NOISE.iter().any(|noise| line.starts_with(noise)));
        let mut line = lines.collect::<Vec<_>>().join("; ");
        line.retain(|char| !char.is_control());
        line.truncate(line.floor_char_boundary(MOST_SAID));
        match line.is_empty() {
            true => "it says nothing".into(),
            false => line,
        }
    }
}

impl Hired {
    /// Starts the program of the container `id`, whose network namespace this is, and waits until it is ready.
    pub(super) fn start(hire: &Hire, namespace: &OwnedFd, run: &Path, id: &str) -> Result<Hired, HireError> {
        let program = hire.program.kind().name();
        let failed = |source| HireError::Start { program, source };
        // The program opens it by our number, some time.
        let user = sys::owning_user_namespace(namespace.as_fd()).map_err(failed)?;
        let mut hired = Hired::spawn(hire, [&user, namespace], run, id).map_err(failed)?;
        match hired.begin(hire, run, id) {
            Ok(()) => Ok(hired),
            Err(error) => {
                hired.end();
                Err(error)
            }
        }
    }

    /// Waits until it is ready, and tells it of its ports.
    fn begin(&mut self, hire: &Hire, run: &Path, id: &str) -> Result<(), HireError> {
        let (kind, program) = (hire.program.kind(), hire.program.kind().name());
        if !becomes_readable(self.said.ready.as_fd(), Some(PATIENCE)) {
            return Err(HireError::Slow { program });
        }
        let mut word = [0; 16];
        if self.said.ready.read(&mut word).unwrap_or(0) == 0 {
            // It has closed its end; all that it said is there when it has ended.
            self.end();
            let said = self.said.line();
            return Err(HireError::Ended { program, said });
        }
        match kind {
            Kind::Pasta => Ok(()),
            Kind::Slirp => publish(&hire.ports, run, id).map_err(|(port, why)| HireError::Port { port, why }),
        }
    }

    fn end(&mut self) {
        // Both fail only for one that was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Of the namespaces, the user namespace is first.
    fn spawn(hire: &Hire, [user, namespace]: [&OwnedFd; 2], run: &Path, id: &str) -> io::Result<Hired> {
        let (text, says) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let own = std::process::id();
        let path = |namespace: &OwnedFd| format!("/proc/{own}/fd/{}", namespace.as_raw_fd());
        let mut command = role::command(NAME);
        command
            .args([&own.to_string(), hire.program.kind().name()])
            .arg(&hire.path)
            .args([path(user), path(namespace), format!("{id}{PORTS}")])
            .args(hire.program.words(&hire.ports))
            .env_clear()
            .stderr(says);
        let ready: OwnedFd = match hire.program.kind() {
            Kind::Pasta => {
                let (ready, says) = pipe2(OFlag::O_CLOEXEC)?;
                command.stdin(namespace.try_clone()?).stdout(says);
                ready
            }
            Kind::Slirp => {
                let (ours, theirs) = UnixStream::pair()?;
                attach::directory(run)?;
                command
                    .stdin(OwnedFd::from(theirs))
                    .current_dir(run.join(attach::DIRECTORY));
                ours.into()
            }
        };
        let (child, pidfd) = role::start(&mut command)?;
        Ok(Hired {
            child,
            pidfd,
            said: Said {
                text: text.into(),
                ready: ready.into(),
            },
        })
    }
}

/// Tells slirp4netns of the ports. Nobody else is to: the socket's name goes.
fn publish(ports: &[Port], run: &Path, id: &str) -> Result<(), (SocketAddr, String)> {
    let directory = match attach::directory(run) {
        Ok(directory) => directory,
        // It was there a moment ago; without ports nobody needs it.
        Err(error) => {
            return ports
                .first()
                .map_or(Ok(()), |port| Err((port.host, error.to_string())));
        }
    };
    let socket = attach::short(&directory, &format!("{id}{PORTS}"));
    let told = ports
        .iter()
        .try_for_each(|port| tell(&socket, port).map_err(|why| (port.host, why)));
    // One that stays is replaced at the next start.
    let _ = std::fs::remove_file(&socket);
    told
}

/// slirp4netns(1), "API SOCKET".
fn tell(socket: &Path, port: &Port) -> Result<(), String> {
    let question = json!({"execute": "add_hostfwd", "arguments": {
        "proto": match port.protocol { Protocol::Tcp => "tcp", Protocol::Udp => "udp" },
        "host_addr": port.host.ip().to_string(),
        "host_port": port.host.port(),
        "guest_port": port.container,
    }});
    let ask = || -> io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(question.to_string().as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.take(MOST_ANSWER).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    match serde_json::from_str::<Value>(&answer) {
        Ok(answer) if answer.get("return").is_some() => Ok(()),
        Ok(answer) => {
            let why = answer.pointer("/error/desc").and_then(Value::as_str);
            Err(why.unwrap_or("it refuses").to_owned())
        }
        Err(error) => Err(format!("its answer cannot be read: {error}")),
    }
}

/// The program's life until it is the program, if this process was started for that: the exit code if it does not become it.
pub fn hired() -> Option<u8> {
    let words: Vec<String> = role::arguments(NAME)?.collect();
    // It is given 0, 1 and 2. A kernel that cannot close the others leaves them to be closed by exec.
    let _ = sys::close_all_from(3);
    let [supervisor, kind, program, user, network, socket, options @ ..] = words.as_slice() else {
        return Some(125);
    };
    let program = Path::new(program);
    let prepared = bind_to(supervisor).and_then(|()| match Kind::of(kind) {
        Some(Kind::Pasta) => Ok(pasta(program, user, options)),
        Some(Kind::Slirp) => slirp(program, [user, network], socket, options),
        None => Err(io::ErrorKind::InvalidInput.into()),
    });
    let (mut command, _kept) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            say(&error);
            return Some(125);
        }
    };
    say(&command.exec());
    Some(127)
}

/// What the supervisor tells of it, if it does not come to work.
fn say(why: &dyn std::fmt::Display) {
    // If nobody listens any more, nobody is left to be told.
    let _ = writeln!(io::stderr(), "{why}");
}

/// It ends with the supervisor, and becomes no more than it is.
fn bind_to(supervisor: &str) -> io::Result<()> {
    let supervisor = supervisor.parse().map_err(io::Error::other)?;
    sys::die_with(Pid::from_raw(supervisor))?;
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    Ok(prctl::set_no_new_privs()?)
}

/// The program's command, and what it is to have open.
type Prepared = (Command, Vec<OwnedFd>);

/// Standard input is the network namespace, standard output where it says that it is ready: by then it has left our /proc.
fn pasta(program: &Path, user: &str, options: &[String]) -> Prepared {
    let mut command = Command::new(program);
    command
        .args(["--foreground", "--no-netns-quit", "--pid", "/proc/self/fd/1"])
        .args(["--userns", user, "--netns", "/proc/self/fd/0"])
        .args(options);
    (command, Vec::new())
}

/// Standard input is the socket by which it says that it is ready, and whose end ends it. What it is given beyond is open in it
/// under the numbers that it is told.
fn slirp(program: &Path, namespaces: [&String; 2], socket: &str, options: &[String]) -> io::Result<Prepared> {
    let kept = |descriptor: &OwnedFd| rustix::io::dup(descriptor);
    let ready = io::stdin().as_fd().try_clone_to_owned()?;
    let [user, network] = namespaces.map(|path| File::open(path).map(OwnedFd::from));
    let kept = [kept(&ready)?, kept(&user?)?, kept(&network?)?];
    let [ready, user, network] = kept.each_ref().map(|kept| kept.as_raw_fd());
    if let Err(why) = confine::program(program) {
        say(&format_args!("WARNING: it is not confined: {}", chain(&why)));
    }
    let mut command = Command::new(program);
    command
        .args(["--exit-fd=0".into(), format!("--ready-fd={ready}")])
        .arg(format!("--api-socket={socket}"))
        .args(options)
        .args([
            "--netns-type=path".into(),
            format!("--userns-path=/proc/self/fd/{user}"),
        ])
        .args([format!("/proc/self/fd/{network}"), "tap0".into()]);
    Ok((command, kept.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_said_is_one_line_that_does_not_end() {
        let (text, says) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        let mut says = File::from(says);
        let mut said = Said {
            text: text.into(),
            ready: File::open("/dev/null").unwrap(),
        };
        assert_eq!(said.line(), "it says nothing");
        says.write_all(b"WARNING: new\nsetns: \x1b[1mno\n\nchild failed\n")
            .unwrap();
        assert_eq!(said.line(), "setns: [1mno; child failed");
        says.write_all("ä".repeat(1000).as_bytes()).unwrap();
        assert_eq!(said.line().len(), MOST_SAID);
    }
}
