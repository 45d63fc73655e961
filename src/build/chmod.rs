//! What does `--chmod` make of a file's permissions? It is a number in octal, or as chmod(1) has it: `u=rwX,go-w`
//! (POSIX, chmod, "symbolic mode"). Who names nobody means all, whatever the umask.

/// A change of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chmod {
    /// To these.
    To(u16),
    /// One after the other.
    By(Vec<Action>),
}

/// `WHO OPERATOR WHAT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Action {
    who: [bool; 3],
    operator: Operator,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Take,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// What another has now: 0 for the owner, 1 the group, 2 others.
    Of(usize),
    Bits {
        /// Of read, write and execute.
        rwx: u16,
        /// Execute for directories, and where anybody may.
        execute_some: bool,
        /// Of set-user-id, set-group-id and sticky.
        special: u16,
    },
}

/// How far the bits of owner, group and others are from the right.
const SHIFTS: [u32; 3] = [6, 3, 0];
/// The bits that go with each of them: the sticky one is the others'.
const SPECIAL: [u16; 3] = [0o4000, 0o2000, STICKY];
const SET_ID: u16 = 0o6000;
const STICKY: u16 = 0o1000;
const EXECUTE: u16 = 0o111;

impl Chmod {
    /// Reads a mode; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Chmod> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let number = u16::from_str_radix(text, 8).ok();
            return number.filter(|perm| *perm <= 0o7777).map(Chmod::To);
        }
        let clauses = text.split(',').map(clause).collect::<Option<Vec<_>>>()?;
        Some(Chmod::By(clauses.concat()))
    }

    /// The permissions of a file that has had `perm`.
    pub(super) fn apply(&self, perm: u16, is_directory: bool) -> u16 {
        match self {
            Chmod::To(perm) => *perm,
            Chmod::By(actions) => actions
                .iter()
                .fold(perm, |perm, action| action.apply(perm, is_directory)),
        }
    }
}

impl Action {
    fn apply(&self, perm: u16, is_directory: bool) -> u16 {
        let (mut bits, mut all) = (0, 0);
        for ((shift, special), _) in SHIFTS.iter().zip(SPECIAL).zip(self.who).filter(|(_, who)| *who) {
            all |= 0o7 << shift | special;
            bits |= match self.what {
                What::Of(other) => ((perm >> SHIFTS.get(other).copied().unwrap_or(0)) & 0o7) << shift,
                What::Bits {
                    rwx,
                    execute_some,
                    special: sets,
                } => {
                    let execute = execute_some && (is_directory || perm & EXECUTE != 0);
                    ((rwx | u16::from(execute)) << shift) | (sets & special)
                }
            };
        }
        if is_directory {
            // There they stay, unless they are named.
            all &= !SET_ID;
        }
        match self.operator {
            Operator::Add => perm | bits,
            Operator::Take => perm & !bits,
            Operator::Set => perm & !all | bits,
        }
    }
}

/// One clause: who, then at least one operator with what it does.
fn clause(text: &str) -> Option<Vec<Action>> {
    let end = text.find(['+', '-', '='])?;
    let (named, mut rest) = text.split_at(end);
    let mut who = [named.is_empty(); 3];
    for letter in named.chars() {
        match letter {
            'a' => who = [true; 3],
            letter => *who.get_mut("ugo".find(letter)?)? = true,
        }
    }
    let mut actions = Vec::new();
    while let Some(letter) = rest.chars().next() {
        let operator = match letter {
            '+' => Operator::Add,
            '-' => Operator::Take,
            '=' => Operator::Set,
            _ => return None,
        };
        rest = rest.get(1..)?;
        let (words, next) = rest.split_at(rest.find(['+', '-', '=']).unwrap_or(rest.len()));
        rest = next;
        actions.push(Action {
            who,
            operator,
            what: what(words)?,
        });
    }
    Some(actions)
}

fn what(words: &str) -> Option<What> {
    if let Some(other) = "ugo".find(words).filter(|_| words.len() == 1) {
        return Some(What::Of(other));
    }
    let (mut rwx, mut execute_some, mut special) = (0, false, 0);
    for letter in words.chars() {
        match letter {
            'r' => rwx |= 0o4,
            'w' => rwx |= 0o2,
            'x' => rwx |= 0o1,
            'X' => execute_some = true,
            's' => special |= SET_ID,
            't' => special |= STICKY,
            _ => return None,
        }
    }
    Some(What::Bits {
        rwx,
        execute_some,
        special,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn it_does_what_chmod_does() {
        let place = tempfile::tempdir().unwrap();
        let (file, directory) = (place.path().join("file"), place.path().join("directory"));
        fs::write(&file, "").unwrap();
        fs::create_dir(&directory).unwrap();
        let modes = [
            "0",
            "644",
            "0755",
            "4711",
            "1777",
            "u+x",
            "a-w",
            "go=",
            "u=rwX,go=rX",
            "g=u",
            "o=g-w",
            "u+s",
            "g+s",
            "ug-s",
            "a+t",
            "a=t",
            "ug+st",
            "u=s",
            "a=rws",
            "a+X",
            "u-x+r",
            "o=u,u=o",
            "go+rw-x",
            "a=",
            "u+rwxXst",
            "o+t",
        ];
        for text in modes {
            let parsed = Chmod::parse(text).unwrap();
            for before in [0o644, 0o755, 0o600, 0o4755, 0o2750, 0o1777, 0o007] {
                for (path, is_directory) in [(&file, false), (&directory, true)] {
                    // A number leaves the set-id bits of directories alone, in chmod(1) alone.
                    if is_directory && matches!(parsed, Chmod::To(_)) {
                        continue;
                    }
                    fs::set_permissions(path, fs::Permissions::from_mode(before.into())).unwrap();
                    let done = Command::new("chmod").arg("--").arg(text).arg(path).status();
                    assert!(done.unwrap().success(), "{text}");
                    let after = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
                    let ours = parsed.apply(before, is_directory);
                    assert_eq!(
                        u32::from(ours),
                        after,
                        "{text} of {before:o}, directory: {is_directory}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "", "8", "10000", "x", "u", "u+q", "u+x,", "q=r", "u=gx", "7a", "u+x g+w", "é=r",
        ] {
            assert!(Chmod::parse(text).is_none(), "{text}");
        }
    }
}
