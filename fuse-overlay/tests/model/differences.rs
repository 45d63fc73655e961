//! What the tree says it has changed is what two looks at it tell.

use std::collections::BTreeMap;

use fuse_overlay::attr::{Attr, Ino, Kind, Time};
use fuse_overlay::name::Name;
use fuse_overlay::union::{Difference, Limits, Tree};

use super::disk::MemoryDisk;
use super::dump::content;
use super::harness::{Image, list};

/// All that a layer could tell of a file, and its number.
#[derive(PartialEq, Debug)]
struct Seen {
    attr: Attr,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    content: Vec<u8>,
}

impl Seen {
    /// Is nothing different that an entry of a layer could tell? The number of names is not in it.
    fn told_alike(&self, other: &Seen) -> bool {
        let without = |attr: Attr| Attr { nlink: 0, ..attr };
        let alike = without(self.attr) == without(other.attr);
        alike && self.xattrs == other.xattrs && self.content == other.content
    }
}

/// By the names on the way.
type All = BTreeMap<Vec<String>, Seen>;

fn look(tree: &Tree, ino: Ino, path: Vec<String>, all: &mut All) {
    let attr = tree.getattr(ino).unwrap();
    let names = tree.listxattr(ino).unwrap();
    let xattrs = names.into_iter().map(|name| {
        let value = tree.getxattr(ino, &name).unwrap();
        (name, value)
    });
    // What no layer tells.
    let plain = Attr {
        blocks: 0,
        size: if attr.kind == Kind::Directory {
            0
        } else {
            attr.size
        },
        atime: Time::default(),
        ctime: Time::default(),
        ..attr
    };
    let seen = Seen {
        attr: plain,
        xattrs: xattrs.collect(),
        content: content(tree, &attr),
    };
    all.insert(path.clone(), seen);
    if attr.kind == Kind::Directory {
        for (name, child, _) in list(tree, ino).into_iter().skip(2) {
            assert!(Name::new(&name).is_ok());
            let mut path = path.clone();
            path.push(String::from_utf8_lossy(&name).into_owned());
            look(tree, child, path, all);
        }
    }
}

fn all(tree: &Tree) -> All {
    let mut all = All::new();
    look(tree, Ino::ROOT, Vec::new(), &mut all);
    all
}

/// What two looks differ by.
fn expected(before: &All, after: &All) -> BTreeMap<Vec<String>, Difference> {
    let mut found = BTreeMap::new();
    for (path, seen) in after {
        match before.get(path) {
            None => found.insert(path.clone(), Difference::Added),
            Some(old) if !old.told_alike(seen) => found.insert(path.clone(), Difference::Changed),
            Some(_) => None,
        };
    }
    let is_directory = |all: &All, path: &[String]| {
        all.get(path)
            .is_some_and(|seen| seen.attr.kind == Kind::Directory)
    };
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        let Some((_, above)) = path.split_last() else {
            continue;
        };
        if is_directory(after, above) {
            found.insert(path.clone(), Difference::Deleted);
        }
    }
    let paths: Vec<_> = found.keys().cloned().collect();
    for path in paths {
        // The root is its own.
        for length in 1..path.len() {
            found
                .entry(path[..length].to_vec())
                .or_insert(Difference::Changed);
        }
    }
    found
}

/// Compares the two.
pub fn check(image: &Image, tree: &Tree) {
    let (before, after) = (all(&untouched(image)), all(tree));
    let mut told = Vec::new();
    let mut each = |differing: fuse_overlay::union::Differing<'_>| {
        let path = String::from_utf8_lossy(differing.path).into_owned();
        let path: Vec<String> = path
            .split('/')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        assert_eq!(
            differing.now.map(|(ino, _)| ino),
            after.get(&path).map(|seen| seen.attr.ino)
        );
        told.push((path, differing.how));
        Ok(())
    };
    tree.differences(&mut each).unwrap();
    let expected: Vec<_> = expected(&before, &after).into_iter().collect();
    assert_eq!(told, expected);
}

/// The same with each file's number replaced by its first path.
fn by_first_path(all: All) -> Vec<(Vec<String>, Vec<String>, Seen)> {
    let mut first = BTreeMap::new();
    let numbered = all.into_iter().map(|(path, mut seen)| {
        let first = first.entry(seen.attr.ino).or_insert_with(|| path.clone()).clone();
        seen.attr.ino = Ino(0);
        (path, first, seen)
    });
    numbered.collect()
}

/// The layer that the tree gives, laid over its image, is the tree again.
pub fn check_layer(image: &Image, tree: &Tree) {
    let layer = tree.write_layer(Vec::new()).unwrap();
    assert_eq!(
        layer,
        tree.write_layer(Vec::new()).unwrap(),
        "the same bytes each time"
    );
    let again = untouched(&image.with_layer(layer).unwrap());
    let (again, wanted) = (by_first_path(all(&again)), by_first_path(all(tree)));
    for (again, wanted) in again.iter().zip(&wanted) {
        assert_eq!(again, wanted);
    }
    assert_eq!(again.len(), wanted.len());
}

/// An image of one file with two names in two directories.
fn two_names() -> Image {
    use super::ops::LayerEntry::{Dir, File, HardLink};
    let layer = vec![
        Dir(vec!["far"]),
        Dir(vec!["here"]),
        File(vec!["here", "a"], 100),
        HardLink(vec!["far", "b"], vec!["here", "a"]),
    ];
    Image::new(&[layer]).unwrap()
}

/// The image under an empty writable layer.
fn untouched(image: &Image) -> Tree {
    Tree::open_on(image.lower(), MemoryDisk::new().storage(), Limits::default()).unwrap()
}

/// A change of an image's file shows at all its names, of which the index knows only the first by the file.
#[test]
fn all_names_of_a_changed_file_differ() {
    let image = two_names();
    let tree = untouched(&image);
    check(&image, &tree);
    let here = tree.lookup(Ino::ROOT, Name::new(b"here").unwrap()).unwrap();
    let file = tree.lookup(here.ino, Name::new(b"a").unwrap()).unwrap();
    tree.write(&super::ops::CALLER, file.ino, 7, b"new", false)
        .unwrap();
    check(&image, &tree);
    check_layer(&image, &tree);
    let mut count = 0;
    let mut each = |_: fuse_overlay::union::Differing<'_>| {
        count += 1;
        Ok(())
    };
    tree.differences(&mut each).unwrap();
    assert_eq!(count, 4, "both directories and both names");
}

/// A file of several names, of which the image's first has moved away: the layer links the new name to the one that stayed.
#[test]
fn a_moved_name_stays_a_link_to_the_one_that_stayed() {
    let image = two_names();
    let tree = untouched(&image);
    let name = |text: &'static str| Name::new(text.as_bytes()).unwrap();
    let how = fuse_overlay::union::Rename::Replace;
    let (from, to) = ((Ino::ROOT, name("here")), (Ino::ROOT, name("there")));
    tree.rename(&super::ops::CALLER, from, to, how).unwrap();
    check(&image, &tree);
    check_layer(&image, &tree);
}
