//! Nothing of Bryo listens on TCP, nor on a name that has no owner.

use std::collections::BTreeSet;
use std::fs;

use super::common::network::{Names, alone};
use super::common::{Bryo, field, until};

/// What listens in this network namespace: TCP's addresses, and abstract names.
fn listening() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap();
        let rows = text
            .lines()
            .skip(1)
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        found.extend(
            rows.filter(|row| row[3] == "0A")
                .map(|row| format!("{table} {}", row[1])),
        );
    }
    let text = fs::read_to_string("/proc/net/unix").unwrap();
    let names = text.lines().filter_map(|row| row.split_whitespace().nth(7));
    found.extend(names.filter(|name| name.starts_with('@')).map(str::to_owned));
    found
}

#[test]
fn no_process_of_ours_listens_on_tcp() {
    alone(
        "listening::no_process_of_ours_listens_on_tcp",
        Names::Hosts,
        || {
            let (bryo, image) = Bryo::with_image("busybox");
            let before = listening();
            bryo.ok(["network", "create", "one"]);
            // With all that stays beside a container: supervisor, server, network process, health checks, a log, a terminal.
            let flags = [
                "--health-cmd",
                "true",
                "--health-interval",
                "200ms",
                "--init",
                "-t",
            ];
            let flags = ["run", "-d", "--restart", "always", "--network"]
                .iter()
                .chain(&["one"])
                .chain(&flags);
            bryo.ok(flags.chain(&["--name", "one", &image, "sleep", "1000"]));
            bryo.ok(["exec", "-d", "one", "sleep", "1000"]);
            let mut tools = [["logs", "-f", "one"], ["attach", "--no-stdin", "one"]].map(|words| {
                let mut tool = bryo.command(words);
                tool.stdout(std::process::Stdio::null()).spawn().unwrap()
            });
            until("a health check", || {
                field(&bryo, "one", "{{.State.Health.Status}}") == "healthy"
            });
            assert_eq!(listening(), before);
            // The look sees what is asked for.
            bryo.ok([
                "run",
                "-d",
                "--name",
                "open",
                "-p",
                "127.0.0.1:8099:80",
                &image,
                "sleep",
                "1000",
            ]);
            let new: Vec<String> = listening().difference(&before).cloned().collect();
            assert_eq!(new, ["tcp 0100007F:1FA3"]);
            bryo.ok(["rm", "-f", "one", "open"]);
            for tool in &mut tools {
                tool.wait().unwrap();
            }
            assert_eq!(listening(), before);
        },
    );
}
