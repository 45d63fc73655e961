//! An inode's extended attributes: most have none, and pay a word for them.

use std::collections::BTreeMap;

type Map = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Names and values, sorted by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Xattrs(Option<Box<Map>>);

impl Xattrs {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Box<[u8]>, &Box<[u8]>)> {
        self.0.iter().flat_map(|map| map.iter())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Box<[u8]>> {
        self.iter().map(|(name, _)| name)
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.as_ref()?.get(name).map(|value| &**value)
    }

    pub(crate) fn contains_key(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.0.get_or_insert_default().insert(name.into(), value.into());
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        if let Some(map) = &mut self.0 {
            map.remove(name);
            if map.is_empty() {
                self.0 = None;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

impl FromIterator<(Box<[u8]>, Box<[u8]>)> for Xattrs {
    fn from_iter<T: IntoIterator<Item = (Box<[u8]>, Box<[u8]>)>>(all: T) -> Xattrs {
        let map: Map = all.into_iter().collect();
        Xattrs((!map.is_empty()).then(|| Box::new(map)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_left_is_the_same_as_none_ever() {
        let mut xattrs = Xattrs::default();
        xattrs.insert(b"user.b", b"1");
        xattrs.insert(b"user.a", b"2");
        xattrs.insert(b"user.b", b"3");
        assert!(xattrs.keys().map(|name| &**name).eq([&b"user.a"[..], b"user.b"]));
        assert_eq!(xattrs.get(b"user.b"), Some(&b"3"[..]));
        xattrs.remove(b"user.a");
        assert!(xattrs.contains_key(b"user.b") && xattrs != Xattrs::default());
        xattrs.remove(b"user.b");
        assert_eq!(xattrs, Xattrs::default());
        assert_eq!(Xattrs::from_iter([]), Xattrs::default());
    }
}
