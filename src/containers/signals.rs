//! Which signal does a name or a number mean? The names are those of moby/sys/signal, which Docker and podman read.

use super::spec::SpecError;

/// The real-time signals, numbered as the C library of most images does (signal(7)); musl's begins one later. Docker counts so, too.
const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Other names of signals.
const ALIASES: [(&str, i32); 3] = [
    ("SIGCLD", libc::SIGCHLD),
    ("SIGIOT", libc::SIGABRT),
    ("SIGPOLL", libc::SIGIO),
];

/// A signal by name (`TERM`, `SIGTERM`, `RTMIN+3`, `RTMAX-1`) or number.
///
/// # Errors
/// Neither.
pub fn parse(text: &str) -> Result<i32, SpecError> {
    let unknown = || SpecError::Signal(text.into());
    if let Ok(number) = text.parse::<i32>() {
        let known = Some(number).filter(|number| (1..=*REALTIME.end()).contains(number));
        return known.ok_or_else(unknown);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let name = format!("SIG{short}");
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == name);
    let named = || name.parse::<nix::sys::signal::Signal>().ok();
    realtime(short)
        .or_else(|| alias().map(|(_, number)| *number))
        .or_else(|| named().map(|signal| signal as i32))
        .ok_or_else(unknown)
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-1`, `RTMAX`.
fn realtime(name: &str) -> Option<i32> {
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => *REALTIME.start(),
        (_, Some("")) => *REALTIME.end(),
        (Some(more), _) => REALTIME.start() + count(more.strip_prefix('+')?)?,
        (_, Some(less)) => REALTIME.end() - count(less.strip_prefix('-')?)?,
        (None, None) => return None,
    };
    REALTIME.contains(&number).then_some(number)
}

fn count(digits: &str) -> Option<i32> {
    digits.parse::<u8>().ok().map(i32::from)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_have_names_and_numbers() {
        let known = [
            ("TERM", libc::SIGTERM),
            ("sigusr1", libc::SIGUSR1),
            ("9", 9),
            ("64", 64),
            ("CLD", libc::SIGCHLD),
            ("SIGPOLL", libc::SIGIO),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX-14", 50),
            ("SIGRTMAX", 64),
        ];
        for (text, number) in known {
            assert_eq!(parse(text).ok(), Some(number), "{text}");
        }
        let unknown = [
            "",
            "SIG",
            "NONSENSE",
            "0",
            "-1",
            "65",
            "SIG9",
            "SIGSIGTERM",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+",
            "RTMIN3",
            "RTMIN+300",
            "TERM ",
        ];
        for text in unknown {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
