//! A mount whose server is killed again and again. The *keeper* stands where the server stands in other tests; it keeps
//! what must outlive a server, and starts one after the other.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::*;

/// How the servers die, told by this variable: their own `FUSE_OVERLAY_KILL`, `FUSE_OVERLAY_ABORT` or `FUSE_OVERLAY_PANIC`.
const DEATH: &str = "FUSE_OVERLAY_TEST_DEATH";

/// What becomes of each server.
#[derive(Clone, Copy)]
pub enum Fate<'a> {
    /// It is killed when so many requests have reached a point: `read`, `happened`, `saved` or `sent`.
    Killed(&'a str, u32),
    /// It makes one checkpoint after the other, and is killed as above, or at the n-th `checkpoint`'s part.
    KilledInAHurry(&'a str, u32),
    /// It aborts at each request that has this in it.
    AbortsAt(&'a str),
    /// It panics at each request that has this in it, and lives on.
    PanicsAt(&'a str),
}

/// As [`super::in_mount`], with servers that meet this fate. `body` is also told how to ask what their successors found.
pub fn in_mortal_mount<F: Fn(&Inside, &dyn Fn() -> [u32; 3])>(
    ids: Ids,
    layers: &[Layer],
    fate: Fate<'_>,
    body: F,
) {
    let role = std::env::var(ROLE).unwrap_or_default();
    match role.split_once(' ') {
        Some(("inside", _)) => run_inside(&|inside| {
            let ask = || {
                let answer = inside.writes().to_ne_bytes();
                let part = |at: usize| u32::from(u16::from_ne_bytes([answer[at], answer[at + 1]]));
                [part(0), part(2), part(4)]
            };
            body(inside, &ask);
        }),
        Some(("keeper", _)) => keep(),
        Some(("mortal", _)) => run_mortal(),
        _ => {
            let dir = prepared(layers);
            let mut keeper = myself("keeper 0", dir.path(), &[]);
            keeper.env(
                DEATH,
                match fate {
                    Fate::Killed(point, count) | Fate::KilledInAHurry(point, count) => {
                        format!("FUSE_OVERLAY_KILL={point}:{count}")
                    }
                    Fate::AbortsAt(name) => format!("FUSE_OVERLAY_ABORT={name}"),
                    Fate::PanicsAt(name) => format!("FUSE_OVERLAY_PANIC={name}"),
                },
            );
            if let Fate::KilledInAHurry(..) = fate {
                keeper.env("FUSE_OVERLAY_HURRY", "1");
            }
            direct_with(keeper, ids, 0, dir.path());
        }
    }
}

fn keep() {
    let mut socket = stdin_socket();
    let (pid, mut kept) = receive(&socket);
    let ledger = fuse_overlay::ledger::create().unwrap();
    let counted = Ledger::open(&ledger).unwrap();
    kept.push(ledger);
    socket.write_all(&std::process::id().to_ne_bytes()).unwrap();
    std::thread::spawn(move || answer_counts(socket, &counted));
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let mut crashed = false;
    loop {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut server = myself(if crashed { "mortal crashed" } else { "mortal 0" }, &dir, &[]);
        let death = std::env::var(DEATH).unwrap();
        let (variable, value) = death.split_once('=').unwrap();
        let mut server = server
            .env(variable, value)
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        send(&ours, &pid.to_ne_bytes(), &kept);
        let status = server.wait().unwrap();
        if status.success() {
            return;
        }
        crashed = died_of_itself(status);
    }
}

fn died_of_itself(status: ExitStatus) -> bool {
    match status.signal() {
        Some(libc::SIGKILL) => false,
        Some(libc::SIGABRT) => true,
        _ => panic!("a server ended with {status}"),
    }
}

fn run_mortal() {
    let (pid, mut devices) = receive(&stdin_socket());
    let ledger = Ledger::open(&devices.pop().unwrap()).unwrap();
    if std::env::var(ROLE).unwrap().ends_with("crashed") {
        ledger.blame();
    }
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    // One that was killed when all requests were answered, and the mount was gone, has nothing to leave.
    let Ok(ids) = IdMap::of_process(pid) else { return };
    let storage = Storage::open(&dir.join("upper")).unwrap();
    let tree = Tree::open_under(image::load(&dir), storage, Limits::default(), &ledger).unwrap();
    serve(tree, ids, devices, &ledger, AtEnd::Sync).unwrap();
}

/// Tells what the successors found, 16 bits each.
fn answer_counts(mut socket: UnixStream, ledger: &Ledger) {
    let mut byte = [0];
    while socket.read_exact(&mut byte).is_ok() {
        let counts = ledger.takeovers();
        let mut answer = [0; 8];
        for (place, count) in
            answer
                .chunks_exact_mut(2)
                .zip([counts.successors, counts.found, counts.happened])
        {
            place.copy_from_slice(&(count as u16).to_ne_bytes());
        }
        if socket.write_all(&answer).is_err() {
            return;
        }
    }
}
