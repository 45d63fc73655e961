//! What is a command within a container that runs (`exec`)? As its init was, but for what is asked otherwise.

use oci_spec::runtime::{Process, Spec, UserBuilder};

use super::{Confine, SpecError, TerminalSize, env, user};

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Within {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// `-e` and `--env-file`.
    pub env: Vec<String>,
    /// `-w`.
    pub workdir: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// `--privileged`.
    pub privileged: bool,
    /// `-t`.
    pub terminal: Option<TerminalSize>,
}

/// What the container knows of users, and who its own is.
#[derive(Debug, Clone, Copy)]
pub struct Accounts<'a> {
    /// Its /etc/passwd.
    pub passwd: &'a str,
    /// Its /etc/group.
    pub group: &'a str,
    /// `-u` of the container, or its image's user.
    pub user: &'a str,
    /// `--group-add`.
    pub added: &'a [String],
}

/// Makes the container's own process another command, on a terminal.
pub fn on_terminal(spec: &mut Spec, command: &[String]) {
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(true));
    let environment = process.env().clone().unwrap_or_default();
    process.set_env(Some(with_terminal(environment)));
    spec.set_process(Some(process));
}

/// Says what terminal it is, if nothing is said.
fn with_terminal(mut environment: Vec<String>) -> Vec<String> {
    if !env::has(&environment, "TERM") {
        environment.push("TERM=xterm".into());
    }
    environment
}

impl Within {
    /// Makes the Spec's process of it. `confine` is the container's; `accounts` are needed for `-u` alone.
    ///
    /// # Errors
    /// An unknown user, a directory that is none.
    pub fn process(
        &self,
        spec: &Spec,
        mut confine: Confine,
        accounts: Option<Accounts<'_>>,
    ) -> Result<Process, SpecError> {
        let mut process = spec.process().clone().unwrap_or_default();
        process.set_args(Some(self.command.clone()));
        if let Some(directory) = &self.workdir {
            if !directory.starts_with('/') {
                return Err(SpecError::Workdir(directory.clone()));
            }
            process.set_cwd(directory.into());
        }
        process.set_terminal(Some(self.terminal.is_some()));
        process.set_console_size(None);
        if let Some(size) = self.terminal {
            process.set_console_size(Some(size.to_spec()?));
        }
        let mut environment = env::merge(&[], process.env().as_deref().unwrap_or_default(), &self.env);
        if self.terminal.is_some() {
            environment = with_terminal(environment);
        }
        if let (Some(user), Some(accounts)) = (&self.user, accounts) {
            self.become_user(&mut process, &mut environment, user, accounts)?;
        }
        process.set_env(Some(environment));
        confine.privileged |= self.privileged;
        process.set_capabilities(Some(confine.capabilities(process.user().uid())?));
        Ok(process)
    }

    fn become_user(
        &self,
        process: &mut Process,
        environment: &mut [String],
        user: &str,
        accounts: Accounts<'_>,
    ) -> Result<(), SpecError> {
        let resolve = |user, added: &[String]| user::resolve(user, added, accounts.passwd, accounts.group);
        let identity = resolve(user, accounts.added)?;
        let ids = UserBuilder::default().uid(identity.uid).gid(identity.gid);
        process.set_user(ids.additional_gids(identity.groups).build()?);
        // A home that nobody asked for was that of the container's user.
        let asked = env::has(&self.env, "HOME");
        let own = resolve(accounts.user, &[]).map(|own| format!("HOME={}", own.home));
        if !asked && let Ok(own) = own {
            for variable in environment.iter_mut().filter(|variable| **variable == own) {
                *variable = format!("HOME={}", identity.home);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(within: &Within) -> Result<Process, SpecError> {
        let spec = serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0, "additionalGids": [0, 4]}, "args": ["sh"], "cwd": "/work",
                "env": ["PATH=/bin", "A=1", "HOME=/root"], "noNewPrivileges": true, "consoleSize": {"height": 1, "width": 2}},
        }));
        let accounts = Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n",
            group: "adm:x:4:web\n",
            user: "",
            added: &["44".into()],
        };
        within.process(&spec.unwrap(), Confine::default(), Some(accounts))
    }

    fn asked(change: impl FnOnce(&mut Within)) -> Within {
        let mut within = Within {
            command: vec!["id".into()],
            ..Within::default()
        };
        change(&mut within);
        within
    }

    #[test]
    fn nothing_asked_is_as_init_was() {
        let process = made(&asked(|_| ())).unwrap();
        assert_eq!(process.args().clone().unwrap(), ["id"]);
        assert_eq!(process.env().clone().unwrap(), ["PATH=/bin", "A=1", "HOME=/root"]);
        assert_eq!(process.cwd().to_str(), Some("/work"));
        assert_eq!(process.no_new_privileges(), Some(true));
        assert_eq!(process.user().additional_gids().clone().unwrap(), [0, 4]);
        assert_eq!((process.terminal(), process.console_size()), (Some(false), None));
        assert!(
            process
                .capabilities()
                .as_ref()
                .unwrap()
                .inheritable()
                .as_ref()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_user_has_its_groups_home_and_no_capabilities() {
        let process = made(&asked(|within| within.user = Some("web".into()))).unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (33, 33));
        assert_eq!(process.user().additional_gids().clone().unwrap(), [33, 4, 44]);
        assert_eq!(process.env().clone().unwrap()[2], "HOME=/var/www");
        assert!(
            process
                .capabilities()
                .as_ref()
                .unwrap()
                .effective()
                .as_ref()
                .unwrap()
                .is_empty()
        );
        let home = made(&asked(|within| {
            within.user = Some("33".into());
            within.env = vec!["HOME=/root".into(), "A".into()];
        }));
        assert_eq!(home.unwrap().env().clone().unwrap(), ["HOME=/root", "PATH=/bin"]);
        assert!(made(&asked(|within| within.user = Some("nobody".into()))).is_err());
    }

    #[test]
    fn a_directory_is_absolute() {
        let within = |directory: &str| asked(|within| within.workdir = Some(directory.into()));
        assert_eq!(made(&within("/tmp")).unwrap().cwd().to_str(), Some("/tmp"));
        assert!(made(&within("tmp")).is_err());
    }
}
