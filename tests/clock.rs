//! The clock of the machine is set while containers are kept: times that lie ahead, or far back, are only times. What waits goes by
//! a clock that nobody sets.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Bryo, field, until};

/// The files of a container, and of all of them, that have times in them.
fn files(bryo: &Bryo, name: &str) -> Vec<PathBuf> {
    let directory = bryo.state().join("containers").join(field(bryo, name, "{{.Id}}"));
    let own = ["record.json", "log", "health.json"].map(|file| directory.join(file));
    own.into_iter()
        .chain([bryo.state().join("events")])
        .filter(|file| file.exists())
        .collect()
}

/// As if the clock had been set, this way or that, since they were written.
fn set_years(files: &[PathBuf], year: &str) {
    let now = jiff::Timestamp::now().strftime("%Y-").to_string();
    let seconds = |year: i16| {
        jiff::civil::date(year, 1, 1)
            .in_tz("UTC")
            .unwrap()
            .timestamp()
            .as_second()
    };
    let shift = (seconds(year.parse().unwrap()) - seconds(now[..4].parse().unwrap())) as i128;
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let mut text = text.replace(&now, &format!("{year}-"));
        // Docker's events have nanoseconds, too.
        if file.ends_with("events") {
            text = text
                .lines()
                .map(|line| {
                    let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
                    for (key, unit) in [("time", 1), ("timeNano", 1_000_000_000)] {
                        if let Some(time) = event.get(key).and_then(serde_json::Value::as_i64) {
                            event[key] = ((i128::from(time) + shift * unit) as i64).into();
                        }
                    }
                    event.to_string() + "\n"
                })
                .collect();
        }
        fs::write(file, text).unwrap();
    }
}

#[test]
fn what_is_ahead_or_far_back_is_shown_started_and_removed() {
    for year in ["2099", "1999"] {
        let (bryo, image) = Bryo::with_image("busybox");
        let script = "echo line; test -e /again && exec sleep 1000; touch /again";
        bryo.ok(["run", "--name", "one", &image, "sh", "-c", script]);
        set_years(&files(&bryo, "one"), year);
        let shown = bryo.ok([
            "ps",
            "-a",
            "--format",
            "{{.Status}}|{{.CreatedAt}}|{{.RunningFor}}",
        ]);
        assert!(shown.starts_with("Exited (0)") && shown.contains(year), "{shown}");
        assert!(
            !shown.contains('-') || shown.contains(&format!("|{year}-")),
            "{shown}"
        );
        assert!(field(&bryo, "one", "{{.State.FinishedAt}}").starts_with(year));
        assert_eq!(bryo.ok(["logs", "one"]), "line\n");
        assert!(bryo.ok(["logs", "-t", "one"]).starts_with(year));
        let since = bryo.ok(["logs", "--since", "1h", "one"]);
        assert_eq!(since, if year == "2099" { "line\n" } else { "" });
        assert_eq!(bryo.ok(["wait", "one"]), "0\n");
        // It goes on, with times of the present, behind those that lie ahead.
        bryo.ok(["start", "one"]);
        until("it says more", || bryo.ok(["logs", "one"]) == "line\nline\n");
        let status = bryo.ok(["ps", "--format", "{{.Status}}"]);
        assert!(status.starts_with("Up "), "{status}");
        assert!(!field(&bryo, "one", "{{.State.StartedAt}}").starts_with(year));
        // What lies ahead has not happened yet, and hides nothing that has.
        let until = (jiff::Timestamp::now().as_second() + 1).to_string();
        let told = bryo.ok([
            "events",
            "--since",
            "1",
            "--until",
            &until,
            "--filter",
            "event=start",
        ]);
        assert_eq!(told.lines().count(), if year == "2099" { 1 } else { 2 }, "{told}");
        bryo.ok(["stop", "-t0", "one"]);
        // Chosen by age: what lies ahead is younger than anything.
        set_years(&files(&bryo, "one"), year);
        let pruned = bryo.ok(["container", "prune", "-f", "--filter", "until=1h"]);
        assert_eq!(pruned.contains("Deleted Containers"), year == "1999", "{pruned}");
        if year == "2099" {
            bryo.ok(["rm", "one"]);
        }
        assert_eq!(bryo.ok(["ps", "-aq"]), "");
    }
}

/// A container that runs while its times are set: what is due comes all the same.
#[test]
fn who_waits_goes_by_another_clock() {
    for year in ["2099", "1999"] {
        let (bryo, image) = Bryo::with_image("busybox");
        let run = "run -d --name one --health-interval 200ms --health-cmd";
        let words: Vec<&str> = run
            .split(' ')
            .chain(["echo x >> /asked", &image, "sleep", "1000"])
            .collect();
        bryo.ok(&words);
        let asked = || {
            bryo.ok(["exec", "one", "sh", "-c", "cat /asked 2>/dev/null | wc -l"])
                .trim()
                .parse::<u32>()
        };
        until("it is asked", || asked().unwrap() > 1);
        set_years(&files(&bryo, "one"), year);
        let before = asked().unwrap();
        until("it is asked again", || asked().unwrap() > before + 2);
        assert_eq!(field(&bryo, "one", "{{.State.Status}}"), "running");
        bryo.ok(["stop", "-t1", "one"]);
        assert_eq!(field(&bryo, "one", "{{.State.ExitCode}}"), "137");
        bryo.ok(["rm", "one"]);
    }
}
