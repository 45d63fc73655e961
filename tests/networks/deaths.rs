//! What is left of a network when processes are killed?

use nix::unistd::Pid;

use crate::common::{Bryo, field, parent, process, until};
use crate::{address, looked_up, page, serve};

fn pair() -> (Bryo, String) {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["network", "create", "one"]);
    for name in ["web", "peer", "third"] {
        serve(&bryo, &image, name, &["--network", "one"]);
    }
    (bryo, image)
}

fn kill(process: Pid) {
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn a_killed_supervisor_takes_its_own_container_along_and_no_other() {
    let (bryo, _) = pair();
    let was = address(&bryo, "web", "one");
    kill(parent(process(&bryo, "web", "Pid")));
    until("the name is gone", || looked_up(&bryo, "peer", "web").is_empty());
    assert_eq!(page(&bryo, "peer", "third"), "third\n");
    assert_eq!(field(&bryo, "web", "{{.State.ExitCode}}"), "137");
    let line = bryo.fails(1, ["network", "rm", "one"]);
    assert!(
        line.contains("name:\"peer\"") && !line.contains("name:\"web\""),
        "{line}"
    );
    bryo.ok(["start", "web"]);
    assert_eq!(address(&bryo, "web", "one"), was);
    assert_eq!(page(&bryo, "peer", "web"), "web\n");
}

#[test]
fn a_killed_network_process_is_followed_by_one_that_knows_names() {
    let (bryo, _) = pair();
    let was = process(&bryo, "peer", "NetworkPid");
    kill(was);
    until("another follows", || {
        let now = process(&bryo, "peer", "NetworkPid");
        now != was && now.as_raw() != 0
    });
    assert_eq!(page(&bryo, "peer", "web"), "web\n");
}

#[test]
fn when_all_supervisors_are_killed_nothing_keeps_the_network() {
    let (bryo, image) = pair();
    for name in ["web", "peer", "third"] {
        kill(parent(process(&bryo, name, "Pid")));
    }
    until("nobody is there", || bryo.ok(["ps", "-q"]).is_empty());
    assert_eq!(
        bryo.ok(["network", "inspect", "-f", "{{len .Containers}}", "one"]),
        "0\n"
    );
    serve(&bryo, &image, "new", &["--network", "one"]);
    // Whoever comes removes what the dead have left.
    let id = bryo.ok(["network", "inspect", "-f", "{{.Id}}", "one"]);
    let members = bryo.root().with_file_name("run").join("networks").join(id.trim());
    let files = std::fs::read_dir(members).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    files.sort();
    let mut wanted = [field(&bryo, "new", "{{.Id}}"), "lock".into()];
    wanted.sort();
    assert_eq!(files, wanted.map(std::ffi::OsString::from));
    bryo.ok(["start", "web"]);
    assert_eq!(page(&bryo, "new", "web"), "web\n");
    bryo.ok(["rm", "-f", "new", "web", "peer", "third"]);
    bryo.ok(["network", "rm", "one"]);
}
