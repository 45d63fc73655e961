//! Who is a user of this machine? By its files alone: a static binary has no NSS. Users known elsewhere (LDAP) are believed
//! their environment, which decides nothing.

use std::env;
use std::fs;

/// A user, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// What the person is called.
    pub full_name: String,
    /// The home directory.
    pub home: String,
    /// The group's name, if it is known.
    pub group: Option<String>,
}

impl Account {
    /// The caller, of these ids. `None`: nobody knows a name.
    pub fn of_caller(uid: u32, gid: u32) -> Option<Account> {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        Account::listed((&read("/etc/passwd"), &read("/etc/group")), uid, gid, variable)
    }

    fn listed(
        (passwd, group): (&str, &str),
        uid: u32,
        gid: u32,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<Account> {
        let line = line_of(passwd, uid);
        let field = |nth: usize| {
            let field = line.as_ref().and_then(|fields| fields.get(nth));
            field.map(|field| (*field).to_owned())
        };
        let name = field(0).or_else(|| variable("USER"))?;
        let group = line_of(group, gid).and_then(|fields| fields.first().map(|name| (*name).to_owned()));
        // As in Go: what comes after a comma are numbers of rooms and telephones.
        let full_name = field(4).unwrap_or_default();
        let full_name = full_name.split(',').next().unwrap_or_default().to_owned();
        let home = field(5).or_else(|| variable("HOME")).unwrap_or_default();
        let account = Account {
            name,
            full_name,
            home,
            group,
        };
        account.is_sayable().then_some(account)
    }

    /// Can lines of passwd(5) and group(5) say it?
    fn is_sayable(&self) -> bool {
        let parts = [&self.name, &self.full_name, &self.home]
            .into_iter()
            .chain(&self.group);
        let breaks = |c: char| c == ':' || c.is_control();
        parts.into_iter().all(|part| !part.contains(breaks))
    }
}

/// A user's login name.
pub(super) fn login_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = line_of(&passwd, uid).and_then(|fields| fields.first().map(|name| (*name).to_owned()));
    listed.or_else(|| variable("USER"))
}

/// The fields of the line in passwd(5) or group(5) that has this id.
fn line_of(text: &str, id: u32) -> Option<Vec<&str>> {
    let id = id.to_string();
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2).is_some_and(|field| *field == id))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_know_more_than_the_environment() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann B,12,34:/home/ann:/bin/zsh\n";
        let group = "users:x:100:\n";
        let set = |name: &str| Some(format!("{name} of env"));
        let ann = Account::listed((passwd, group), 1000, 100, set);
        let known = |name: &str, full_name: &str, home: &str, group: Option<&str>| Account {
            name: name.into(),
            full_name: full_name.into(),
            home: home.into(),
            group: group.map(Into::into),
        };
        assert_eq!(ann, Some(known("ann", "Ann B", "/home/ann", Some("users"))));
        let elsewhere = Account::listed((passwd, group), 7, 8, set);
        assert_eq!(elsewhere, Some(known("USER of env", "", "HOME of env", None)));
        assert_eq!(Account::listed((passwd, group), 7, 8, |_| None), None);
        // What no line could say.
        assert_eq!(Account::listed(("", ""), 7, 8, |_| Some("a:b".into())), None);
    }
}
