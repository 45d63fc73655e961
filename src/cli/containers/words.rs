//! How was a container's command line written? Its flags, to be used again.

use clap::{Arg, Args as _, Command};

use super::run::Run;
use crate::containers::unit::Line;

/// The words of this process's command line before the image, which `command` follows. `None`: they cannot be written.
pub(super) fn line(command: &[String]) -> Option<Line> {
    let words: Result<Vec<String>, _> = std::env::args_os().map(|word| word.into_string()).collect();
    let words = words.ok()?;
    let begin = words.iter().position(|word| word == "run" || word == "create")? + 1;
    let end = words.len().checked_sub(command.len() + 1)?;
    let mut flags = words.get(begin..end)?.to_vec();
    if flags.last().is_some_and(|word| word == "--") {
        flags.pop();
    }
    Some(Line {
        flags,
        command: command.to_vec(),
        directory: std::env::current_dir().ok()?,
    })
}

/// The flags of `run` without those of these (long) names.
pub(in crate::cli) fn without(flags: &[String], dropped: &[&str]) -> Vec<String> {
    let table = Run::augment_args(Command::new("run"));
    let is_dropped = |arg: Option<&Arg>| {
        arg.and_then(Arg::get_long)
            .is_some_and(|name| dropped.contains(&name))
    };
    let mut kept = Vec::new();
    let mut words = flags.iter();
    while let Some(word) = words.next() {
        if let Some(text) = word.strip_prefix("--") {
            let name = text.split_once('=').map_or(text, |(name, _)| name);
            let arg = table.get_arguments().find(|arg| is_called(arg, name));
            let more = !text.contains('=') && arg.is_some_and(wants_value);
            let value = more.then(|| words.next()).flatten();
            if !is_dropped(arg) {
                kept.push(word.clone());
                kept.extend(value.cloned());
            }
            continue;
        }
        let mut letters = word.chars().skip(1);
        let mut cluster = String::from("-");
        while let Some(letter) = letters.next() {
            let arg = table.get_arguments().find(|arg| arg.get_short() == Some(letter));
            let takes = arg.is_some_and(wants_value);
            let rest: String = if takes {
                letters.by_ref().collect()
            } else {
                String::new()
            };
            let value = (takes && rest.is_empty()).then(|| words.next()).flatten();
            if !is_dropped(arg) {
                cluster.push(letter);
                cluster.push_str(&rest);
                if let Some(value) = value {
                    kept.push(std::mem::replace(&mut cluster, "-".into()));
                    kept.push(value.clone());
                }
            }
        }
        if cluster.len() > 1 {
            kept.push(cluster);
        }
    }
    kept
}

fn is_called(arg: &Arg, name: &str) -> bool {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    arg.get_long() == Some(name) || aliases.contains(&name)
}

fn wants_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_with_their_values() {
        let dropped = ["detach", "rm", "name", "restart"];
        for (flags, kept) in [
            ("-d --rm --name x -p 80:80", "-p 80:80"),
            ("-itd -e -d --name=x -v a:b", "-it -e -d -v a:b"),
            (
                "-de A=1 --restart always --sig-proxy=false",
                "-e A=1 --sig-proxy=false",
            ),
            ("-eA=d --net host", "-eA=d --net host"),
            ("--rm", ""),
        ] {
            let words: Vec<String> = flags.split(' ').map(Into::into).collect();
            assert_eq!(without(&words, &dropped).join(" "), kept, "{flags}");
        }
    }
}
