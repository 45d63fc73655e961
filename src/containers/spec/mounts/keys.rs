//! What does `--mount type=…,KEY=VALUE,…` mean? A line of comma-separated values, a field in quotes where it has commas
//! itself. A key of one type is refused with another.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde_json::{Map, Value, json};

use super::super::SpecError;
use super::{Bind, Image, Missing, Volume, What, Wish, bytes, default_tmpfs, target};
use crate::containers::names::is_name;
use crate::containers::runtime::TOP_READ_ONLY;
use crate::truth::truth;

/// The keys as they were given.
#[derive(Default)]
struct Keys {
    kind: Option<String>,
    source: String,
    target: Option<String>,
    read_only: Option<bool>,
    bind: BindKeys,
    volume: VolumeKeys,
    tmpfs: TmpfsKeys,
    image_subpath: Option<String>,
    /// Podman's key, of volumes and images.
    subpath: Option<String>,
}

#[derive(Default, PartialEq)]
struct BindKeys {
    propagation: Option<String>,
    recursive: Option<Recursive>,
    create_source: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Recursive {
    Enabled,
    Disabled,
    Writable,
    ReadOnly,
}

#[derive(Default, PartialEq)]
struct VolumeKeys {
    subpath: Option<String>,
    no_copy: bool,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    driver: Option<String>,
}

#[derive(Default, PartialEq)]
struct TmpfsKeys {
    size: Option<u64>,
    mode: Option<u32>,
}

/// `--mount KEY=VALUE,…`.
///
/// # Errors
/// Refuses other types, unknown keys, keys of another type, and missing ones.
pub fn mount(text: &str, cwd: &Path) -> Result<Wish, SpecError> {
    let failed = |why| SpecError::Mount {
        text: text.into(),
        why,
    };
    let mut keys = Keys::default();
    for field in fields(text).map_err(failed)? {
        keys.set(&field, &failed)?;
    }
    let place = keys.target.take().ok_or_else(|| failed("target is required"))?;
    let kind = keys.kind.take().unwrap_or_else(|| "volume".into());
    let part = keys.subpath.take();
    match kind.as_str() {
        "image" => keys.image_subpath = part.or(keys.image_subpath),
        _ => keys.volume.subpath = part.or(keys.volume.subpath),
    }
    keys.belong_to(&kind).map_err(failed)?;
    let spec = keys.shown(&kind, &place);
    let what = match kind.as_str() {
        "bind" => keys.bind(place, cwd),
        "tmpfs" => keys.tmpfs(place),
        "volume" => {
            if !keys.source.is_empty() && !is_name(&keys.source) {
                return Err(SpecError::VolumeName(keys.source));
            }
            keys.volume(place)
        }
        _ => keys.image(place),
    };
    Ok(Wish {
        what: what.map_err(failed)?,
        mode: String::new(),
        bind: None,
        spec: Some(spec),
    })
}

/// The fields of one line of comma-separated values (RFC 4180).
fn fields(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        let after = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                field.push_str(rest.get(..end).unwrap_or_default());
                rest.get(end..).unwrap_or_default()
            }
            Some(mut quoted) => loop {
                let (part, after) = quoted.split_once('"').ok_or("a quote is not closed")?;
                field.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => break after,
                }
            },
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(fields),
            None => return Err("something follows a closing quote"),
        }
    }
}

fn pair(value: &str) -> (String, String) {
    let (key, value) = value.split_once('=').unwrap_or((value, ""));
    (key.into(), value.into())
}

/// A path within a volume or an image.
fn subpath(value: &str) -> Result<Option<String>, &'static str> {
    let mut depth = 0;
    for part in Path::new(value).components() {
        depth += match part {
            Component::Normal(_) => 1,
            Component::ParentDir => -1,
            Component::CurDir => 0,
            Component::RootDir | Component::Prefix(_) => return Err("a sub-path must be relative"),
        };
        if depth < 0 {
            return Err("a sub-path must not lead out");
        }
    }
    Ok(Some(value.into()).filter(|path: &String| !path.is_empty()))
}

fn is_wanted(field: &str) -> Result<bool, &'static str> {
    let value = field.split_once('=').map_or("true", |(_, value)| value);
    truth(value).ok_or("expected true or false")
}

/// Keys that mean yes without a value.
const ALONE: [&str; 7] = [
    "readonly",
    "ro",
    "rw",
    "readwrite",
    "volume-nocopy",
    "bind-nonrecursive",
    "bind-create-src",
];

const UNKNOWN: &str = "unknown key";

impl BindKeys {
    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<(), &'static str> {
        match key {
            "propagation" => {
                self.propagation = match value {
                    "private" | "rprivate" | "slave" | "rslave" => Some(value.into()),
                    "shared" | "rshared" => return Err("shared propagation is not for ordinary users"),
                    _ => return Err("unknown bind-propagation"),
                }
            }
            "nonrecursive" => self.recursive = is_wanted(field)?.then_some(Recursive::Disabled),
            "recursive" => {
                self.recursive = Some(match value {
                    "enabled" | "true" | "1" => Recursive::Enabled,
                    "disabled" | "false" | "0" => Recursive::Disabled,
                    "writable" => Recursive::Writable,
                    "readonly" => Recursive::ReadOnly,
                    _ => return Err("bind-recursive is enabled, disabled, writable or readonly"),
                });
            }
            "create-src" => self.create_source = is_wanted(field)?,
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }
}

impl VolumeKeys {
    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<(), &'static str> {
        match key {
            "subpath" => self.subpath = subpath(value)?,
            "nocopy" => self.no_copy = is_wanted(field)?,
            "label" => self.labels.extend([pair(value)]),
            "opt" => self.options.extend([pair(value)]),
            "driver" => self.driver = Some(value.into()),
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }
}

impl Keys {
    fn set(&mut self, field: &str, failed: &dyn Fn(&'static str) -> SpecError) -> Result<(), SpecError> {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let yes = || is_wanted(field).map_err(failed);
        let key = key.to_ascii_lowercase();
        if !ALONE.contains(&key.as_str()) && !field.contains('=') {
            return Err(failed("expected KEY=VALUE"));
        }
        match key.as_str() {
            "type" => self.kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => self.source = value.into(),
            "target" | "destination" | "dst" => self.target = Some(target(value)?),
            "readonly" | "ro" => self.read_only = Some(yes()?),
            "rw" | "readwrite" => self.read_only = Some(!yes()?),
            // Of Docker Desktop.
            "consistency" => {}
            "image-subpath" => self.image_subpath = subpath(value).map_err(failed)?,
            "subpath" => self.subpath = subpath(value).map_err(failed)?,
            "tmpfs-size" => {
                let size = bytes(value).ok_or_else(|| SpecError::Size(value.into()))?;
                self.tmpfs.size = Some(size);
            }
            "tmpfs-mode" => match u32::from_str_radix(value, 8) {
                Ok(bits) if bits <= 0o7777 => self.tmpfs.mode = Some(bits),
                _ => return Err(failed("tmpfs-mode is not an octal mode")),
            },
            key => match (key.strip_prefix("bind-"), key.strip_prefix("volume-")) {
                (Some(key), _) => self.bind.set(key, value, field).map_err(failed)?,
                (_, Some(key)) => self.volume.set(key, value, field).map_err(failed)?,
                _ => return Err(failed(UNKNOWN)),
            },
        }
        Ok(())
    }

    fn belong_to(&self, kind: &str) -> Result<(), &'static str> {
        if !matches!(kind, "bind" | "tmpfs" | "volume" | "image") {
            return Err("the type is bind, volume, tmpfs or image");
        }
        let mixed = [
            (
                "bind",
                self.bind != BindKeys::default(),
                "cannot mix 'bind-*' options with another type",
            ),
            (
                "volume",
                self.volume != VolumeKeys::default(),
                "cannot mix 'volume-*' options with another type",
            ),
            (
                "tmpfs",
                self.tmpfs != TmpfsKeys::default(),
                "cannot mix 'tmpfs-*' options with another type",
            ),
            (
                "image",
                self.image_subpath.is_some(),
                "cannot mix 'image-*' options with another type",
            ),
        ];
        match mixed.iter().find(|(of, set, _)| *of != kind && *set) {
            Some((_, _, why)) => Err(why),
            None => Ok(()),
        }
    }

    fn bind(self, target: String, cwd: &Path) -> Result<What, &'static str> {
        if self.source.is_empty() {
            return Err("source is required");
        }
        let read_only = self.read_only == Some(true);
        let recursive = self.bind.recursive.unwrap_or(Recursive::Enabled);
        let propagation = self.bind.propagation.unwrap_or_else(|| "rprivate".into());
        let access = match (recursive, read_only) {
            (Recursive::ReadOnly | Recursive::Writable, false) => {
                return Err("bind-recursive of this kind needs readonly");
            }
            (Recursive::ReadOnly, true) if propagation != "rprivate" => {
                return Err("bind-recursive=readonly needs bind-propagation=rprivate");
            }
            (_, false) => "rw",
            (Recursive::Writable, true) => TOP_READ_ONLY,
            (_, true) => "ro",
        };
        let recursion = match recursive {
            Recursive::Disabled => "bind",
            _ => "rbind",
        };
        Ok(What::Bind(Bind {
            // Without `.`; `..` stays for the kernel, which knows the symlinks.
            source: cwd.join(self.source).components().collect(),
            target,
            options: vec![recursion.into(), propagation, access.into()],
            missing: match self.bind.create_source {
                true => Missing::Create,
                false => Missing::Refuse,
            },
        }))
    }

    fn tmpfs(self, target: String) -> Result<What, &'static str> {
        if !self.source.is_empty() {
            return Err("a tmpfs has no source");
        }
        let mut options = default_tmpfs();
        options.push(if self.read_only == Some(true) { "ro" } else { "rw" }.into());
        options.extend(self.tmpfs.size.map(|size| format!("size={size}")));
        options.push(format!("mode={:o}", self.tmpfs.mode.unwrap_or(0o1777)));
        Ok(What::Tmpfs { target, options })
    }

    fn volume(self, target: String) -> Result<What, &'static str> {
        let volume = self.volume;
        if volume.driver.is_some_and(|driver| driver != "local") {
            return Err("the only volume driver is local");
        }
        if self.source.is_empty() && volume.subpath.is_some() {
            return Err("a new volume has no sub-path");
        }
        if self.source.is_empty() && self.read_only == Some(true) {
            return Err("must not set ReadOnly mode when using anonymous volumes");
        }
        Ok(What::Volume(Volume {
            name: Some(self.source).filter(|name| !name.is_empty()),
            target,
            read_only: self.read_only == Some(true),
            subpath: volume.subpath,
            no_copy: volume.no_copy,
            own: false,
            labels: volume.labels,
            options: volume.options,
        }))
    }

    fn image(self, target: String) -> Result<What, &'static str> {
        if self.source.is_empty() {
            return Err("source is required");
        }
        Ok(What::Image(Image {
            image: self.source,
            target,
            subpath: self.image_subpath,
            writable: self.read_only == Some(false),
        }))
    }

    /// As Docker's API has it.
    fn shown(&self, kind: &str, place: &str) -> Value {
        let mut shown = Map::new();
        shown.insert("Type".into(), kind.into());
        if !self.source.is_empty() {
            shown.insert("Source".into(), self.source.as_str().into());
        }
        shown.insert("Target".into(), place.into());
        if self.read_only == Some(true) {
            shown.insert("ReadOnly".into(), true.into());
        }
        let mut more = |name: &str, options: Value| {
            let given = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
            let options: Map<_, _> = match options {
                Value::Object(options) => options.into_iter().filter(|(_, value)| given(value)).collect(),
                _ => Map::new(),
            };
            if !options.is_empty() {
                shown.insert(name.into(), options.into());
            }
        };
        let volume = &self.volume;
        let some = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
        let driver = some(&volume.options).map(|options| json!({"Name": "local", "Options": options}));
        let recursive = |kind| self.bind.recursive == Some(kind);
        more(
            "BindOptions",
            json!({"Propagation": self.bind.propagation, "NonRecursive": recursive(Recursive::Disabled),
                "ReadOnlyNonRecursive": recursive(Recursive::Writable),
                "ReadOnlyForceRecursive": recursive(Recursive::ReadOnly),
                "CreateMountpoint": self.bind.create_source}),
        );
        more(
            "VolumeOptions",
            json!({"NoCopy": volume.no_copy, "Labels": some(&volume.labels), "Subpath": volume.subpath,
                "DriverConfig": driver}),
        );
        more(
            "TmpfsOptions",
            json!({"SizeBytes": self.tmpfs.size, "Mode": self.tmpfs.mode}),
        );
        more("ImageOptions", json!({"Subpath": self.image_subpath}));
        shown.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Wish, SpecError> {
        mount(text, Path::new("/home/me"))
    }
    fn bind(text: &str) -> (String, String, String) {
        match parsed(text).map(|wish| wish.what) {
            Ok(What::Bind(b)) => (b.source.display().to_string(), b.target, b.options.join(",")),
            other => panic!("{text}: {other:?}"),
        }
    }
    fn is(source: &str, options: &str) -> (String, String, String) {
        (source.into(), "/b".into(), options.into())
    }

    #[test]
    fn binds() {
        assert_eq!(
            bind("type=bind,src=sub,dst=/b,readonly"),
            is("/home/me/sub", "rbind,rprivate,ro")
        );
        assert_eq!(
            bind("type=bind,src=/a,dst=/b,bind-recursive=disabled,bind-propagation=slave,ro=false"),
            is("/a", "bind,slave,rw")
        );
        assert_eq!(
            bind("type=bind,src=/a,dst=/b,bind-recursive=writable,ro"),
            is("/a", "rbind,rprivate,X-bryo.top-ro")
        );
    }

    #[test]
    fn memory() {
        let made = parsed("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let options = ["noexec", "nosuid", "nodev", "rw", "size=1048576", "mode=700"];
        let options = options.map(String::from).into();
        assert_eq!(
            made.what,
            What::Tmpfs {
                target: "/t".into(),
                options
            }
        );
    }

    #[test]
    fn volumes_with_all_keys_and_as_inspect_shows_them() {
        let text = "src=data,dst=/b,volume-subpath=a/b,volume-nocopy,volume-label=k=v,\"volume-opt=o=size=1m,mode=700\",ro";
        let made = parsed(text).unwrap();
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_string(), value.to_string())]);
        let volume = Volume {
            name: Some("data".into()),
            target: "/b".into(),
            read_only: true,
            subpath: Some("a/b".into()),
            no_copy: true,
            own: false,
            labels: map("k", "v"),
            options: map("o", "size=1m,mode=700"),
        };
        assert_eq!(made.what, What::Volume(volume));
        let shown = json!({"Type": "volume", "Source": "data", "Target": "/b", "ReadOnly": true, "VolumeOptions": {
            "NoCopy": true, "Labels": {"k": "v"}, "Subpath": "a/b",
            "DriverConfig": {"Name": "local", "Options": {"o": "size=1m,mode=700"}}}});
        assert_eq!(made.spec, Some(shown));
    }

    #[test]
    fn images() {
        let made = |text| match parsed(text).map(|wish| wish.what) {
            Ok(What::Image(image)) => image,
            other => panic!("{text}: {other:?}"),
        };
        let image = made("type=image,source=busybox,target=/b,image-subpath=etc");
        assert_eq!((image.subpath.as_deref(), image.writable), (Some("etc"), false));
        assert!(made("type=image,source=busybox,target=/b,rw").writable);
        // Keys come in any order.
        let image = made("subpath=etc,source=busybox,target=/b,type=image");
        assert_eq!(image.subpath.as_deref(), Some("etc"));
        assert!(parsed("src=vv,dst=/b,volume-subpath=a/../b").is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "type=bind,dst=/b",
            "type=bind,src=/a",
            "type=npipe,src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,bogus=1",
            "type=tmpfs,src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,tmpfs-size=1",
            "src=vv,dst=/b,volume-driver=nfs",
            "src=vv,dst=/b,bind-propagation=slave",
            "dst=/b,volume-subpath=a",
            "src=vv,dst=/b,volume-subpath=/a",
            "src=vv,dst=/b,volume-subpath=..",
            "src=vv,dst=/b,volume-subpath=a/../../b",
            "type=volume,dst=/b,readonly",
            "type=bind,src=/a,dst=/b,subpath=c",
            "src=vv,dst=/b,\"ro",
            "src=vv,dst=/b,\"ro\"x",
            "type=image,dst=/b",
            "src=vv,dst=/b,ro=maybe",
            "dst",
            "type=bind,src=/a,dst=/b,bind-recursive=readonly",
        ] {
            assert!(matches!(parsed(bad), Err(SpecError::Mount { .. })), "{bad}");
        }
        assert!(matches!(parsed("src=/a,dst=/b"), Err(SpecError::VolumeName(_))));
    }
}
