//! Does what is started here end with the login? As systemd-logind has it (logind.conf(5), loginctl(1)); told from files alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::account::login_name;

/// Where logind.conf and its drop-ins are, what counts most first.
const PLACES: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];

/// Who ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The user's service manager, which ends with the last session of who may not linger.
    Manager,
    /// logind, which ends what a session leaves.
    Session,
}

/// What is told of a container that stays in the background, but will not outlive the login; with the remedy.
pub fn logout_warning() -> Option<String> {
    let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
    let (end, user) = end(Path::new("/"), &cgroup, login_name)?;
    Some(match end {
        End::Manager => format!(
            "the container ends when {user} logs out, as all in the user's systemd does; to keep it: loginctl enable-linger {user}"
        ),
        End::Session => format!(
            "the container ends when {user} logs out, as all of this session does (KillUserProcesses in logind.conf); to keep it: \
             loginctl enable-linger {user}, and start it by systemd-run --user --scope bryo …"
        ),
    })
}

/// Who ends processes in these cgroups when the login ends, and whose that is, by name.
fn end(root: &Path, cgroup: &str, name: impl Fn(u32) -> Option<String>) -> Option<(End, String)> {
    // systemd's own hierarchy: the unified one, or, beside version 1, a named one.
    let paths = cgroup.lines().filter_map(|line| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        ["", "name=systemd"].contains(&hierarchy).then_some(path)
    });
    let (end, uid) = paths.into_iter().find_map(unit)?;
    if !root.join("run/systemd/system").exists() {
        return None;
    }
    let user = name(uid).unwrap_or_else(|| uid.to_string());
    let ends = match end {
        End::Manager => !root.join("var/lib/systemd/linger").join(&user).exists(),
        End::Session => Settings::read(root).kill(&user),
    };
    ends.then_some((end, user))
}

/// The unit of a login that a cgroup lies in, and the user's id.
fn unit(path: &str) -> Option<(End, u32)> {
    let mut parts = path
        .split('/')
        .skip_while(|part| !(part.starts_with("user-") && part.ends_with(".slice")));
    let slice = parts.next()?.strip_prefix("user-")?.strip_suffix(".slice")?;
    let unit = parts.next()?;
    let end = if unit == format!("user@{slice}.service") {
        End::Manager
    } else if unit.starts_with("session-") && unit.ends_with(".scope") {
        End::Session
    } else {
        return None;
    };
    Some((end, slice.parse().ok()?))
}

/// What logind.conf says about processes that a session leaves.
struct Settings {
    kills: bool,
    /// If there are any, of their sessions alone.
    only: Vec<String>,
    except: Vec<String>,
}

impl Settings {
    fn read(root: &Path) -> Settings {
        let mut settings = Settings {
            kills: false,
            only: Vec::new(),
            except: vec!["root".into()],
        };
        let mut places = PLACES.iter().map(|place| root.join(place).join("systemd"));
        let main = places.find_map(|place| fs::read_to_string(place.join("logind.conf")).ok());
        let main = main.unwrap_or_default();
        // What was chosen when logind was built stands there as a comment.
        let comments = main.lines().filter_map(|line| line.strip_prefix('#'));
        for line in comments.filter(|line| line.starts_with("KillUserProcesses=")) {
            settings.line(line);
        }
        main.lines().for_each(|line| settings.line(line));
        for text in drop_ins(root) {
            text.lines().for_each(|line| settings.line(line));
        }
        settings
    }

    fn line(&mut self, line: &str) {
        let Some((key, value)) = line.split_once('=') else {
            return;
        };
        let list = match key.trim() {
            "KillUserProcesses" => {
                let word = value.trim().to_ascii_lowercase();
                self.kills = ["1", "yes", "y", "true", "t", "on"].contains(&word.as_str());
                return;
            }
            "KillOnlyUsers" => &mut self.only,
            "KillExcludeUsers" => &mut self.except,
            _ => return,
        };
        // An empty one takes back what was said before.
        if value.trim().is_empty() {
            list.clear();
        }
        list.extend(value.split_whitespace().map(str::to_owned));
    }

    fn kill(&self, user: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|one| one == user);
        self.kills && !named(&self.except) && (self.only.is_empty() || named(&self.only))
    }
}

/// The drop-ins, in the order of their names; of one name, that of the place that counts most.
fn drop_ins(root: &Path) -> impl Iterator<Item = String> {
    let mut found = BTreeMap::new();
    for place in PLACES.iter().rev() {
        let directory = root.join(place).join("systemd/logind.conf.d");
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            found.insert(entry.file_name(), entry.path());
        }
    }
    found
        .into_iter()
        .filter(|(name, _)| name.to_string_lossy().ends_with(".conf"))
        .filter_map(|(_, path)| fs::read_to_string(path).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with systemd and these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const SESSION: &str = "0::/user.slice/user-1000.slice/session-2.scope\n";
    const MANAGER: &str = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n";

    fn found(root: &tempfile::TempDir, cgroup: &str) -> Option<End> {
        let name = |uid| (uid == 1000).then(|| "ann".to_owned());
        let found = end(root.path(), cgroup, name)?;
        assert_eq!(found.1, "ann");
        Some(found.0)
    }

    #[test]
    fn who_may_not_linger_loses_what_is_in_the_service_manager() {
        assert_eq!(found(&machine(&[]), MANAGER), Some(End::Manager));
        assert_eq!(
            found(&machine(&[("var/lib/systemd/linger/bob", "")]), MANAGER),
            Some(End::Manager)
        );
        assert_eq!(
            found(&machine(&[("var/lib/systemd/linger/ann", "")]), MANAGER),
            None
        );
        let hybrid =
            "4:memory:/\n1:name=systemd:/user.slice/user-1000.slice/user@1000.service/a.scope\n0::/\n";
        assert_eq!(found(&machine(&[]), hybrid), Some(End::Manager));
    }

    #[test]
    fn what_is_of_no_login_is_not_ended_by_one() {
        for cgroup in [
            "0::/\n",
            "0::/system.slice/cron.service\n",
            "0::/user.slice/user-1000.slice/x\n",
            "",
        ] {
            assert_eq!(found(&machine(&[]), cgroup), None, "{cgroup}");
        }
        // Without systemd nobody does that, whatever a container's cgroup is called.
        let bare = tempfile::tempdir().unwrap();
        assert_eq!(found(&bare, MANAGER), None);
    }

    #[test]
    fn a_session_takes_its_processes_along_where_logind_is_told_so() {
        const YES: &str = "[Login]\nKillUserProcesses=yes\n";
        const MAIN: &str = "etc/systemd/logind.conf";
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[], false),
            (&[(MAIN, YES)], true),
            (
                &[("usr/lib/systemd/logind.conf", "#KillUserProcesses=yes\n")],
                true,
            ),
            (
                &[
                    (MAIN, "#KillUserProcesses=no\n"),
                    ("usr/lib/systemd/logind.conf", YES),
                ],
                false,
            ),
            (
                &[
                    (MAIN, "#KillUserProcesses=no\n"),
                    ("etc/systemd/logind.conf.d/a.conf", YES),
                ],
                true,
            ),
            (
                &[
                    ("usr/lib/systemd/logind.conf.d/a.conf", YES),
                    ("etc/systemd/logind.conf.d/a.conf", ""),
                ],
                false,
            ),
            (
                &[
                    (MAIN, YES),
                    ("run/systemd/logind.conf.d/a.conf", "KillExcludeUsers=root ann\n"),
                ],
                false,
            ),
            (
                &[
                    (MAIN, YES),
                    ("run/systemd/logind.conf.d/a.conf", "KillOnlyUsers=bob\n"),
                ],
                false,
            ),
            (
                &[
                    (MAIN, YES),
                    ("run/systemd/logind.conf.d/a.conf", "KillOnlyUsers=bob ann\n"),
                ],
                true,
            ),
        ];
        for (files, ends) in cases {
            assert_eq!(
                found(&machine(files), SESSION),
                ends.then_some(End::Session),
                "{files:?}"
            );
        }
        // Lingering keeps the service manager, not the session.
        let both = machine(&[(MAIN, YES), ("var/lib/systemd/linger/ann", "")]);
        assert_eq!(found(&both, SESSION), Some(End::Session));
    }
}
