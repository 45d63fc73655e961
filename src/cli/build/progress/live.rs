//! A build on a terminal, as BuildKit shows it: the steps that are under way, each with its time and the last lines that its
//! command wrote, are drawn anew; each that is done leaves a line above them.
//!
//! No thread draws, since whoever starts containers has one: it is drawn when something happens, and as often as whoever
//! waits is asked to tell ([`Progress::pace`]).

use std::collections::{BTreeMap, VecDeque};
use std::io::stderr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use rustix::termios::tcgetwinsize;

use super::{lines, show};
use crate::build::Progress;

/// How often times move on.
const PACE: Duration = Duration::from_millis(100);
/// So many lines of a command are shown under its step: BuildKit's number.
const TAIL: usize = 6;
/// And so many of one that fails.
const KEPT: usize = 50;
/// Where a terminal does not say how large it is.
const SIZE: (usize, usize) = (80, 24);

/// One of the stages that are built side by side.
pub(super) struct Live {
    view: Arc<Mutex<View>>,
    /// The number of its step.
    step: Mutex<Option<usize>>,
    /// It is not beside another.
    is_first: bool,
}

/// What all of them show together.
struct View {
    all: MultiProgress,
    bar: ProgressBar,
    began: Instant,
    /// Those under way, by their numbers.
    steps: BTreeMap<usize, Step>,
    begun: usize,
    done: usize,
}

struct Step {
    title: String,
    began: Instant,
    last: VecDeque<String>,
    unfinished: Vec<u8>,
}

/// Is there a terminal, and one that can go back? On others `indicatif` shows nothing at all.
pub(super) fn can_draw() -> bool {
    !ProgressDrawTarget::stderr().is_hidden()
}

impl Live {
    pub(super) fn new() -> Live {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        // The template is constant; a wrong one would show a bar.
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = all.add(ProgressBar::no_length().with_style(style));
        let view = View {
            all,
            bar,
            began: Instant::now(),
            steps: BTreeMap::new(),
            begun: 0,
            done: 0,
        };
        Live {
            view: Arc::new(Mutex::new(view)),
            step: Mutex::new(None),
            is_first: true,
        }
    }

    fn ends(&self, how: &str) {
        if let Some(number) = self.step.lock().take() {
            self.view.lock().ends(number, how);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.fails();
        let view = self.view.lock();
        if self.is_first && view.begun > 0 {
            let whole = view.began.elapsed();
            view.line(&format!(
                "[+] Building {} ({}/{}) FINISHED",
                seconds(whole),
                view.done,
                view.begun
            ));
        }
    }
}

impl View {
    /// A line that stays.
    fn line(&self, text: &str) {
        // What cannot be printed, nobody sees.
        if self.steps.is_empty() {
            let _ = self.all.clear();
            show(format!("{text}\n").as_bytes());
        } else {
            let _ = self.all.println(text);
        }
    }

    fn ends(&mut self, number: usize, how: &str) {
        if let Some(step) = self.steps.remove(&number) {
            self.done += 1;
            self.draw();
            self.line(&step.line(how, size().0));
        }
    }

    /// What it wrote last says why.
    fn fails(&mut self, number: usize) {
        let Some(step) = self.steps.remove(&number) else {
            return;
        };
        self.draw();
        self.line(&step.line("ERROR ", size().0));
        let unfinished = (!step.unfinished.is_empty()).then(|| readable(&step.unfinished));
        let last: Vec<&String> = step.last.iter().chain(&unfinished).collect();
        if !last.is_empty() {
            self.line(&format!("------\n > {}:", step.title));
            last.iter().for_each(|line| self.line(line));
            self.line("------");
        }
    }

    fn draw(&self) {
        if self.steps.is_empty() {
            // What is printed now is in nobody's way.
            let _ = self.all.clear();
            return;
        }
        let (width, height) = size();
        let head = format!(
            "[+] Building {} ({}/{})",
            seconds(self.began.elapsed()),
            self.done,
            self.begun
        );
        let mut text = vec![head];
        for step in self.steps.values() {
            text.push(step.line("", width));
            let shown = step.last.len().saturating_sub(TAIL);
            let last = step.last.iter().skip(shown);
            text.extend(last.map(|line| cut(&format!(" => => # {line}"), width)));
        }
        // More than fits would scroll away, and could not be drawn anew.
        text.truncate(height.saturating_sub(1).max(1));
        self.bar.set_message(text.join("\n"));
        self.bar.tick();
    }
}

impl Step {
    /// Its title on the left, its time on the right.
    fn line(&self, how: &str, width: usize) -> String {
        let time = seconds(self.began.elapsed());
        let room = width.saturating_sub(time.len() + 1);
        let title = cut(&format!(" => {how}{}", self.title), room);
        format!("{title:room$} {time}")
    }
}

/// Columns and lines, one column left free: some terminals go to the next line when the last is written to.
fn size() -> (usize, usize) {
    let (columns, lines) = match tcgetwinsize(stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE,
    };
    (columns - 1, lines)
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

fn cut(text: &str, room: usize) -> String {
    text.chars().take(room).collect()
}

/// A line as it stands when it is written: without colours and other controls, and what a carriage return wrote over.
fn readable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let last = text.rsplit('\r').next().unwrap_or_default();
    let (mut shown, mut left) = (String::new(), last.chars());
    while let Some(c) = left.next() {
        match c {
            // `ESC [ … letter`; of others only the next character goes.
            '\u{1b}' if left.next() == Some('[') => {
                let _ = left.find(|c| ('@'..='~').contains(c));
            }
            '\u{1b}' => {}
            '\t' => shown.push_str("    "),
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    shown
}

impl Progress for Live {
    fn begins(&self, title: &str) {
        self.ends("");
        let mut view = self.view.lock();
        view.begun += 1;
        let number = view.begun;
        let step = Step {
            title: crate::line::printable_line(title),
            began: Instant::now(),
            last: VecDeque::new(),
            unfinished: Vec::new(),
        };
        view.steps.insert(number, step);
        view.draw();
        *self.step.lock() = Some(number);
    }

    fn cached(&self) {
        self.ends("CACHED ");
    }

    fn output(&self, bytes: &[u8]) {
        let Some(number) = *self.step.lock() else { return };
        let mut view = self.view.lock();
        if let Some(step) = view.steps.get_mut(&number) {
            for line in lines(&mut step.unfinished, bytes) {
                step.last.push_back(readable(&line));
                if step.last.len() > KEPT {
                    step.last.pop_front();
                }
            }
        }
        view.draw();
    }

    fn done(&self) {
        self.ends("");
    }

    fn fails(&self) {
        if let Some(number) = self.step.lock().take() {
            self.view.lock().fails(number);
        }
    }

    fn warning(&self, text: &str) {
        let view = self.view.lock();
        view.line(&format!("bryo: {}", crate::line::printable_line(text)));
        view.draw();
    }

    fn pace(&self) -> Option<Duration> {
        Some(PACE)
    }

    fn tick(&self) {
        self.view.lock().draw();
    }

    fn beside(&self) -> Box<dyn Progress + '_> {
        Box::new(Live {
            view: Arc::clone(&self.view),
            step: Mutex::new(None),
            is_first: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_shown_without_controls() {
        for (line, shown) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[1;31mred\x1b[0m end", "red end"),
            (b"10%\r50%\r100%\r", "100%"),
            (b"a\tb\x07\x1b(Bc", "a    bBc"),
            (b"\xff", "\u{fffd}"),
            (b"\x1b[2J\x1b", ""),
        ] {
            assert_eq!(readable(line), shown);
        }
    }

    #[test]
    fn a_step_has_its_time_at_the_right() {
        let step = Step {
            title: "[1/2] RUN a very long command".into(),
            began: Instant::now(),
            last: VecDeque::new(),
            unfinished: Vec::new(),
        };
        assert_eq!(step.line("", 24), " => [1/2] RUN a ver 0.0s");
        let wide = step.line("CACHED ", 60);
        assert_eq!(wide.len(), 60);
        assert!(wide.starts_with(" => CACHED [1/2] RUN a very long command ") && wide.ends_with(" 0.0s"));
        assert_eq!(step.line("", 0), " 0.0s");
    }
}
