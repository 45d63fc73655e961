//! Who is `-u`? Names are those of the image's own passwd and group files, by the rules of Docker's `user` package.

use super::SpecError;

/// Ids above this are refused, as Docker does: programs take them for negative.
const MAX_ID: u32 = i32::MAX as u32;

/// The identity of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups, the primary one included, so that a group cannot be shed to pass a check that denies
    /// its members (CVE-2022-36109).
    pub(super) groups: Vec<u32>,
    /// From passwd, else `/`.
    pub(super) home: String,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Lines that are not `passwd(5)` are skipped: the file comes from the image and may hold anything.
fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).unwrap_or("");
        Some(Passwd { name, uid, gid, home })
    })
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or(""),
        })
    })
}

/// A number stands for itself and never for a name spelled the same (CVE-2016-3697). `None`: it is a name.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // Too many digits for a u64 are out of range all the same.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn in_range(id: u64, text: &str) -> Result<u32, SpecError> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| SpecError::IdRange(text.into()))
}

/// Resolves `user` (`""`, `name`, `uid`, each also with `:group` or `:gid`) and `--group-add`.
///
/// # Errors
/// A name that the image does not know, or a number out of range.
pub(super) fn resolve(
    user: &str,
    group_add: &[String],
    passwd_text: &str,
    group_text: &str,
) -> Result<Identity, SpecError> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let wanted = number(user);
    let found = passwd(passwd_text).find(|entry| match wanted {
        Some(uid) => u64::from(entry.uid) == uid,
        None if user.is_empty() => entry.uid == 0,
        None => entry.name == user,
    });
    let mut identity = Identity {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        home: "/".into(),
    };
    match (&found, wanted) {
        (Some(entry), _) => {
            identity.uid = in_range(entry.uid.into(), user)?;
            identity.gid = in_range(entry.gid.into(), user)?;
            if !entry.home.is_empty() {
                identity.home = entry.home.into();
            }
        }
        (None, Some(uid)) => identity.uid = in_range(uid, user)?,
        (None, None) if user.is_empty() => {}
        (None, None) => return Err(SpecError::NoSuchUser(user.into())),
    }
    let mut supplementary = Vec::new();
    if !group.is_empty() {
        identity.gid = resolve_group(group, group_text)?;
    } else if let Some(entry) = &found {
        let member = |g: &Group<'_>| g.members.split(',').any(|m| m.trim() == entry.name);
        supplementary.extend(groups(group_text).filter(member).map(|g| g.gid));
    }
    for group in group_add {
        supplementary.push(resolve_group(group, group_text)?);
    }
    identity.groups.push(identity.gid);
    for gid in supplementary {
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(identity)
}

fn resolve_group(group: &str, text: &str) -> Result<u32, SpecError> {
    match number(group) {
        Some(gid) => in_range(gid, group),
        None => groups(text)
            .find(|entry| entry.name == group)
            .map(|entry| entry.gid)
            .ok_or_else(|| SpecError::NoSuchGroup(group.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:5:5::/:\nweb:x:33:33:w:/var/www:/x\n\
                          42:x:1000:1000::/home/42:/bin/sh\nnohome:x:7:8\nbig:x:4294967295:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nadm:x:4:root,web\nvideo:x:44: web\n42:x:99:\n";

    fn identity(user: &str) -> Result<Identity, SpecError> {
        resolve(user, &[], PASSWD, GROUP)
    }
    fn ids(user: &str) -> Option<(u32, u32, Vec<u32>, String)> {
        identity(user).ok().map(|i| (i.uid, i.gid, i.groups, i.home))
    }

    #[test]
    fn nobody_asked_is_root_with_its_groups_and_home() {
        assert_eq!(ids(""), Some((0, 0, vec![0, 4], "/root".into())));
        assert_eq!(resolve("", &[], "", "").map(|i| i.home).ok(), Some("/".into()));
    }

    #[test]
    fn a_name_brings_its_groups() {
        assert_eq!(ids("web"), Some((33, 33, vec![33, 4, 44], "/var/www".into())));
        assert_eq!(ids("33"), ids("web"));
        assert_eq!(ids("nohome"), Some((7, 8, vec![8], "/".into())));
    }

    #[test]
    fn a_group_replaces_the_users_groups() {
        assert_eq!(ids("web:adm"), Some((33, 4, vec![4], "/var/www".into())));
        assert_eq!(
            ids("web:12345"),
            Some((33, 12345, vec![12345], "/var/www".into()))
        );
        assert_eq!(ids(":adm"), Some((0, 4, vec![4], "/root".into())));
    }

    #[test]
    fn an_unknown_number_is_taken_with_group_0() {
        assert_eq!(ids("5000"), Some((5000, 0, vec![0], "/".into())));
        assert_eq!(ids("5000:6000"), Some((5000, 6000, vec![6000], "/".into())));
    }

    /// CVE-2016-3697: a user named "42" must not be what `-u 42` gives.
    #[test]
    fn a_number_is_never_a_name() {
        assert_eq!(ids("42"), Some((42, 0, vec![0], "/".into())));
        assert_eq!(ids("web:42"), Some((33, 42, vec![42], "/var/www".into())));
    }

    #[test]
    fn unknown_names_and_ids_out_of_range_are_refused() {
        assert!(matches!(identity("nobody"), Err(SpecError::NoSuchUser(_))));
        assert!(matches!(identity("web:nogroup"), Err(SpecError::NoSuchGroup(_))));
        for bad in [
            "2147483648",
            "4294967296",
            "99999999999999999999999",
            "0:2147483648",
            "big",
        ] {
            assert!(matches!(identity(bad), Err(SpecError::IdRange(_))), "{bad}");
        }
        assert!(matches!(identity("-1"), Err(SpecError::NoSuchUser(_))));
        assert!(matches!(identity("+0"), Err(SpecError::NoSuchUser(_))));
    }

    #[test]
    fn groups_are_added_once_each() {
        let add = ["video".to_string(), "4".into(), "4".into(), "777".into()];
        let identity = resolve("web", &add, PASSWD, GROUP).map(|i| i.groups);
        assert_eq!(identity.ok(), Some(vec![33, 4, 44, 777]));
    }
}
