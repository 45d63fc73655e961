//! How is a plan of COPY carried out in a tree?

use std::collections::HashMap;
use std::io;

use fuse_overlay::attr::{Ino, Kind};
use fuse_overlay::name::Name;
use fuse_overlay::union::Tree;
use nix::errno::Errno;

use super::contents::Contents;
use super::copy::{CopyError, Item, Order, Plan, shown};
use super::source::{Entry, Source};
use super::tree::{Growing, Missing};

impl Order {
    /// Copies into a tree; the bytes of files stay where they are, as `contents` says.
    pub(super) fn carry_out<'a>(
        &'a self,
        plan: &'a Plan,
        source: &'a dyn Source,
        tree: &Tree,
        contents: &mut Contents<'a>,
    ) -> Result<(), CopyError> {
        if plan.is_empty() {
            return Ok(());
        }
        let growing = Growing(tree);
        let failed = |error: fuse_overlay::error::Error| CopyError::Write(shown(&self.dest), error.0.into());
        let owner = self.owner.unwrap_or_default();
        let place = growing
            .find(&self.dest, Missing::Make(owner, self.now))
            .map_err(failed)?;
        let is_directory = place.now.is_some_and(|now| now.kind == Kind::Directory);
        if !plan.into && !is_directory {
            let (Some(item), Some(name)) = (plan.items.first(), &place.name) else {
                return Ok(());
            };
            return self
                .put(&growing, (source, contents), item, (place.dir, name), None)
                .map(|_ino| ());
        }
        let top = growing.directory(&self.dest, owner, self.now).map_err(failed)?;
        let (mut directories, mut files) = (Vec::new(), HashMap::new());
        for item in &plan.items {
            let failed = |error: io::Error| {
                CopyError::Write(format!("{}/{}", shown(&self.dest), shown(&item.to)), error)
            };
            let (dir, name) = way(&growing, top, &item.to).map_err(failed)?;
            let first = item.entry.linked.and_then(|linked| files.get(&linked).copied());
            if item.entry.kind == Kind::Directory {
                let made = growing
                    .enter(dir, &name)
                    .map_err(|error| failed(error.0.into()))?;
                directories.push((made, item));
            } else {
                let ino = self.put(&growing, (source, contents), item, (dir, &name), first)?;
                files.extend(item.entry.linked.map(|linked| (linked, ino)));
            }
        }
        // Last, since what came into them has changed their times.
        for (made, item) in directories.into_iter().rev() {
            let done = self.dress(&growing, made, &item.entry);
            done.map_err(|error| CopyError::Write(shown(&item.to), error))?;
        }
        plan.top
            .map_or(Ok(()), |time| growing.set_mtime(top, time).map_err(failed))
    }

    fn dress(&self, growing: &Growing<'_>, ino: Ino, entry: &Entry) -> io::Result<()> {
        let owner = self.owner.unwrap_or(entry.owner);
        let perm = self.perm_of(entry);
        let done = growing.dress(ino, perm, owner, Some(entry.mtime));
        done.map_err(|error| error.0)?;
        // A change of owner would take capabilities away again.
        for (name, value) in &entry.xattrs {
            growing.xattr(ino, name, value).map_err(|error| error.0)?;
        }
        Ok(())
    }

    /// Copies one thing that is no directory. `first`: the file that this is one more name of.
    fn put<'a>(
        &'a self,
        growing: &Growing<'_>,
        (source, contents): (&'a dyn Source, &mut Contents<'a>),
        item: &'a Item,
        (dir, name): (Ino, &Name),
        first: Option<Ino>,
    ) -> Result<Ino, CopyError> {
        let failed = |error| CopyError::Write(format!("{}/{}", shown(&self.dest), shown(&item.to)), error);
        if let Some(first) = first {
            return growing
                .link(first, dir, name)
                .map_err(|error| failed(error.0.into()));
        }
        let entry = &item.entry;
        let ino = match entry.kind {
            Kind::Regular => {
                let made = growing.file(dir, name, item.size());
                let ino = made.map_err(|error| failed(error.0.into()))?;
                contents.promise(ino, self, source, item);
                ino
            }
            Kind::Symlink => {
                let made = growing.symlink(dir, name, &entry.target);
                made.map_err(|error| failed(error.0.into()))?
            }
            Kind::CharDevice | Kind::BlockDevice => return Err(CopyError::Device(item.shown())),
            kind => {
                let made = growing.special(dir, name, kind);
                made.map_err(|error| failed(error.0.into()))?
            }
        };
        self.dress(growing, ino, entry).map_err(failed)?;
        Ok(ino)
    }
}

/// The directory, made if it is missing, and the name in it that a path below `top` leads to.
fn way(growing: &Growing<'_>, top: Ino, path: &[u8]) -> io::Result<(Ino, Box<Name>)> {
    let name = |part| Name::new(part).map_err(|_| io::Error::from(Errno::EINVAL));
    let mut dir = top;
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let last = name(parts.pop().unwrap_or_default())?;
    for part in parts {
        dir = growing.enter(dir, name(part)?).map_err(|error| error.0)?;
    }
    Ok((dir, last.to_boxed()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::time::Duration;

    use fuse_overlay::union::{Caller, SetGroupId, SetXattr};

    use super::*;
    use crate::build::Error;
    use crate::build::copy::Wildcards;
    use crate::build::hashes::Hashes;
    use crate::build::patterns::ignore::Ignore;
    use crate::build::source::{Context, Stage};
    use crate::build::tree::{Times, add_tree};
    use crate::build::workspace::Draft;
    use crate::store::scratch;

    const ROOT: Ino = Ino(1);

    fn order(source: &str) -> Order {
        Order {
            sources: vec![source.into()],
            parents: None,
            wildcards: Wildcards::Patterns,
            inline: Vec::new(),
            dest: b"/to/".to_vec(),
            into: true,
            owner: None,
            chmod: None,
            exclude: Ignore::default(),
            now: fuse_overlay::attr::Time::default(),
        }
    }

    #[test]
    fn a_file_that_changes_after_it_was_hashed_is_told() {
        let (dir, store) = scratch();
        let file = dir.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let context = Context::open(dir.path()).unwrap();
        let order = order("file");
        let plan = order.plan(&context).unwrap();
        order.digest(&plan, &context, &Hashes::default()).unwrap();
        let Draft { tree, .. } = &Draft::over(&store, &[]).unwrap();
        let mut contents = Contents::default();
        order.carry_out(&plan, &context, tree, &mut contents).unwrap();
        let added = |contents: &Contents<'_>| add_tree(&store, &[], tree, contents, Times::Own);
        added(&contents).unwrap();
        for changed in ["two", "on", "more"] {
            std::fs::write(&file, changed).unwrap();
            let error = added(&contents).unwrap_err();
            assert!(
                matches!(error, Error::Copy(CopyError::Changed(_))),
                "{changed}: {error}"
            );
        }
        std::fs::remove_file(&file).unwrap();
        let error = added(&contents).unwrap_err();
        assert!(matches!(error, Error::Copy(CopyError::Read(..))), "{error}");
    }

    /// What nobody had changed for a while is not hashed a second time: its times tell.
    #[test]
    fn a_file_that_changes_while_it_is_copied_is_told() {
        let nothing = |_: &Path| ();
        let touch = |file: &Path| std::fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap();
        let write = |file: &Path| std::fs::write(file, "owe").unwrap();
        type Change<'a> = &'a dyn Fn(&Path);
        let cases: [(&str, Change<'_>, Change<'_>, bool); 5] = [
            ("as-it-was", &nothing, &nothing, true),
            ("touched-before", &touch, &nothing, true),
            ("touched-twice", &touch, &touch, true),
            ("written-before", &write, &nothing, false),
            ("written-meanwhile", &nothing, &write, false),
        ];
        let (dir, store) = scratch();
        for (name, ..) in cases {
            std::fs::write(dir.path().join(name), "one").unwrap();
        }
        std::thread::sleep(Duration::from_millis(2100));
        let context = Context::open(dir.path()).unwrap();
        for (name, before, meanwhile, is_same) in cases {
            let order = order(name);
            let plan = order.plan(&context).unwrap();
            order.digest(&plan, &context, &Hashes::default()).unwrap();
            assert!(plan.items[0].hash.get().unwrap().of.is_some());
            let Draft { tree, .. } = &Draft::over(&store, &[]).unwrap();
            let mut contents = Contents::default();
            order.carry_out(&plan, &context, tree, &mut contents).unwrap();
            let path = [b"/to/", name.as_bytes()].concat();
            let copied = Growing(tree).find(&path, Missing::Refuse).unwrap().now.unwrap();
            before(&dir.path().join(name));
            let mut content = contents.of(copied.ino).unwrap();
            content.read_exact(&mut [0]).unwrap();
            meanwhile(&dir.path().join(name));
            let rest = content.read_to_end(&mut Vec::new());
            assert_eq!(rest.is_ok(), is_same, "{name}: {rest:?}");
        }
    }

    /// A log that grows; a file of sysfs, whose size is always a page.
    #[test]
    fn what_was_hashed_counts_and_not_the_size_that_was_said() {
        let (dir, store) = scratch();
        let file = dir.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let context = Context::open(dir.path()).unwrap();
        for content in ["one and more", "1"] {
            let order = order("file");
            let plan = order.plan(&context).unwrap();
            std::fs::write(&file, content).unwrap();
            order.digest(&plan, &context, &Hashes::default()).unwrap();
            let Draft { tree, .. } = &Draft::over(&store, &[]).unwrap();
            let mut contents = Contents::default();
            order.carry_out(&plan, &context, tree, &mut contents).unwrap();
            let claim = add_tree(&store, &[], tree, &contents, Times::Own).unwrap();
            let copy = Draft::over(&store, claim.layers()).unwrap();
            let (stage, mut read) = (Stage(&copy.tree), Vec::new());
            let mut open = Source::open(&stage, b"to/file").unwrap();
            open.read_to_end(&mut read).unwrap();
            assert_eq!(read, content.as_bytes());
        }
    }

    #[test]
    fn attributes_come_along_and_count() {
        let (_dir, store) = scratch();
        let Draft { tree: source, .. } = &Draft::over(&store, &[]).unwrap();
        let caller = Caller {
            uid: 0,
            gid: 0,
            umask: 0,
            unique: 0,
        };
        let name = Name::new(b"file").unwrap();
        let file = source.mknod(&caller, ROOT, name, 0o100_755, 0).unwrap().ino;
        let set = |value: &[u8]| {
            let name = b"security.capability";
            source
                .setxattr(&caller, file, name, value, SetXattr::Any, SetGroupId::Keep)
                .unwrap();
        };
        // `cap_net_bind_service+ep`, revision 2.
        let capability = *b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        set(&capability);
        let (order, stage) = (order("file"), Stage(source));
        let (plan, hashes) = (order.plan(&stage).unwrap(), Hashes::default());
        let first = order.digest(&plan, &stage, &hashes).unwrap();
        let Draft { tree: target, .. } = &Draft::over(&store, &[]).unwrap();
        order
            .carry_out(&plan, &stage, target, &mut Contents::default())
            .unwrap();
        let copied = Growing(target)
            .find(b"/to/file", Missing::Refuse)
            .unwrap()
            .now
            .unwrap();
        assert_eq!(
            target.getxattr(copied.ino, b"security.capability").unwrap(),
            capability
        );
        let mut other = capability;
        other[5] = 8;
        set(&other);
        let plan = order.plan(&stage).unwrap();
        assert_ne!(order.digest(&plan, &stage, &hashes).unwrap(), first);
    }
}
