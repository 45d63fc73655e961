//! Are a stack's layers there, and can they be served? What is derived (layer indexes, merged index) and lost, old or
//! damaged is made again; a lost tar is not.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use fuse_overlay::index::view::LoadError;
use fuse_overlay::index::{DiffId, View, merge};
use fuse_overlay::layer;
use fuse_overlay::union::{Lower, LowerLayer};

use super::Error;
use crate::store::failpoint::Stepped;
use crate::store::{self, ChainId, Durability, Medium, Mode, Store, write};

/// Is the layer's tar in the store? Its index can be made from it.
pub fn is_stored(store: &Store, layer: &DiffId) -> bool {
    store.layer_tar(layer).is_file()
}

/// Bytes of the layer's tar.
pub fn size(store: &Store, layer: &DiffId) -> Result<u64, Error> {
    let path = store.layer_tar(layer);
    match fs::metadata(&path) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::LayerMissing(*layer)),
        Err(error) => Err(store::Error::io("look at", &path)(error).into()),
    }
}

/// Bytes of the files that a layer alone needs: tar and index. What is not there has none.
pub fn bytes(store: &Store, layer: &DiffId) -> u64 {
    let paths = [store.layer_tar(layer), store.layer_index(layer)];
    let sizes = paths
        .iter()
        .filter_map(|path| Some(fs::metadata(path).ok()?.len()));
    sizes.sum()
}

/// Opens a stack of layers, lowest first, with its merged index, which is made if it is not there. Builds make one for each
/// step: a loss of power may spoil it.
pub fn open(store: &Store, layers: &[DiffId]) -> Result<Lower, Error> {
    open_with(store, layers, Durability::Volatile)
}

/// The same of an image on the list: a merged index that is made survives a loss of power, or is not there.
pub(super) fn open_listed(store: &Store, layers: &[DiffId]) -> Result<Lower, Error> {
    open_with(store, layers, Durability::Whole)
}

fn open_with(store: &Store, layers: &[DiffId], durability: Durability) -> Result<Lower, Error> {
    let medium = store.medium()?;
    let mut tars = Vec::with_capacity(layers.len());
    let mut indexes = Vec::with_capacity(layers.len());
    for layer in layers {
        let tar = open_tar(store, layer)?;
        indexes.push(layer_index(store, medium, layer, &tar)?);
        tars.push(tar);
    }
    let view = merged_index(store, medium, layers, &indexes, durability)?;
    let layers = tars
        .into_iter()
        .zip(indexes)
        .map(|(tar, index)| LowerLayer::tar(tar, index))
        .collect();
    Ok(Lower { view, layers })
}

pub(super) fn open_tar(store: &Store, layer: &DiffId) -> Result<File, Error> {
    let path = store.layer_tar(layer);
    match File::open(&path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::LayerMissing(*layer)),
        Err(error) => Err(store::Error::io("open", &path)(error).into()),
    }
}

/// The layer's index, made again from the tar if it cannot be used.
fn layer_index(store: &Store, medium: Medium, layer: &DiffId, tar: &File) -> Result<View, Error> {
    let path = store.layer_index(layer);
    let size = tar
        .metadata()
        .map_err(store::Error::io("look at", &store.layer_tar(layer)))?
        .len();
    let usable = |view: &View| view.source() == layer.0 && view.tar_size() == size;
    if let Some(view) = load(&path, medium, usable)? {
        return Ok(view);
    }
    let _lock = store.lock(&format!("layer-{layer}"), Mode::Exclusive)?;
    if let Some(view) = load(&path, medium, usable)? {
        return Ok(view);
    }
    tracing::info!(%layer, "index of the layer is lost or old: made again from its tar");
    reindex(store, layer, tar)?;
    load(&path, medium, usable)?.ok_or_else(|| unusable(&path))
}

/// Makes a layer's index from its tar, which is hashed on the way.
pub(super) fn reindex(store: &Store, layer: &DiffId, tar: &File) -> Result<(), Error> {
    let index = store.aside()?;
    let stored = layer::reindex(tar, &mut Stepped(index.file())).map_err(|source| Error::Layer {
        layer: *layer,
        source,
    })?;
    if stored.diff_id != *layer {
        return Err(Error::LayerDamaged(*layer));
    }
    Ok(index.commit(&store.layer_index(layer), Durability::Whole)?)
}

/// The stack's merged index, made again from the layers' indexes if it cannot be used.
fn merged_index(
    store: &Store,
    medium: Medium,
    layers: &[DiffId],
    indexes: &[View],
    durability: Durability,
) -> Result<View, Error> {
    let chain = ChainId::of(layers);
    let path = store.merged_index(&chain);
    let usable = |view: &View| view.source() == chain.0 && view.layers().is_ok_and(|found| found == layers);
    if let Some(view) = load(&path, medium, usable)? {
        return Ok(view);
    }
    let _lock = store.lock(&format!("merged-{}", chain.hex()), Mode::Exclusive)?;
    if let Some(view) = load(&path, medium, usable)? {
        return Ok(view);
    }
    remerge(store, &chain, indexes, durability)?;
    load(&path, medium, usable)?.ok_or_else(|| unusable(&path))
}

/// Makes a stack's merged index from its layers' indexes, lowest first.
pub(super) fn remerge(
    store: &Store,
    chain: &ChainId,
    indexes: &[View],
    durability: Durability,
) -> Result<(), Error> {
    let path = store.merged_index(chain);
    let failed = |source| Error::Merge {
        path: path.clone(),
        source,
    };
    let aside = store.aside()?;
    let mut out = BufWriter::with_capacity(1 << 20, Stepped(aside.file()));
    merge::merge(indexes, chain.0, &mut out).map_err(failed)?;
    out.flush().map_err(store::Error::io("write", &path))?;
    drop(out);
    Ok(aside.commit(&path, durability)?)
}

/// Brings a stack's merged index to the disk, whoever made it: an image that is on the list is to be read after a loss of
/// power, too.
pub(super) fn flush_merged(store: &Store, layers: &[DiffId]) -> Result<(), Error> {
    let path = store.merged_index(&ChainId::of(layers));
    let file = File::open(&path).map_err(store::Error::io("open", &path))?;
    Ok(write::flush(&file, &path)?)
}

/// Opens an index; `None` if it is not there, damaged, of another version or of something else: it is to be made again.
pub(super) fn load(
    path: &Path,
    medium: Medium,
    usable: impl Fn(&View) -> bool,
) -> Result<Option<View>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(store::Error::io("open", path)(error).into()),
    };
    let access = medium.access(&file);
    match View::open(file, path, access) {
        Ok(view) => Ok(Some(view).filter(|view| usable(view))),
        Err(LoadError::Io(error)) if error.kind() != ErrorKind::UnexpectedEof => {
            Err(store::Error::io("read", path)(error).into())
        }
        Err(_) => Ok(None),
    }
}

fn unusable(path: &Path) -> Error {
    let source = LoadError::Io(io::Error::other("was made again and still cannot be used"));
    Error::Index {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::arrive::{Claim, New, add};
    use crate::images::{Image, find};
    use crate::store::scratch;

    /// An image of one layer with one file, listed as `a:1`.
    fn image(store: &Store) -> Image {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(5);
        header.set_mode(0o644);
        tar.append_data(&mut header, "greeting", &b"hello"[..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        let layer = DiffId::from(store::Digest::of(&bytes));
        let claim = Claim::new(store, &[layer]).unwrap();
        let (tar, index) = (store.aside().unwrap(), store.aside().unwrap());
        layer::store(&mut &bytes[..], &mut tar.file(), &mut index.file()).unwrap();
        index
            .commit(&store.layer_index(&layer), Durability::Volatile)
            .unwrap();
        tar.commit(&store.layer_tar(&layer), Durability::Durable).unwrap();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{layer:?}"]}}}}"#
        );
        let names = ["a:1".parse().unwrap()];
        let new = New {
            manifest: b"{}",
            config: config.as_bytes(),
            names: &names,
        };
        add(store, claim, &new).unwrap()
    }

    #[test]
    fn what_is_derived_is_made_again() {
        let (_dir, store) = scratch();
        let image = image(&store);
        let derived = [
            store.layer_index(&image.layers[0]),
            store.merged_index(&image.chain),
        ];
        for path in &derived {
            for spoiled in [None, Some(&b"not an index"[..]), Some(&[0; 8192][..])] {
                match spoiled {
                    None => fs::remove_file(path).unwrap(),
                    Some(bytes) => fs::write(path, bytes).unwrap(),
                }
                let lower = image.lower(&store).unwrap();
                assert_eq!((lower.view.node_count(), lower.layers.len()), (2, 1));
                lower.view.check().unwrap();
            }
        }
        assert_eq!(find(&store, "a:1").unwrap().map(|found| found.id), Some(image.id));
    }

    #[test]
    fn a_lost_or_cut_tar_is_said() {
        let (_dir, store) = scratch();
        let image = image(&store);
        let path = store.layer_tar(&image.layers[0]);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1024)
            .unwrap();
        assert!(matches!(
            image.lower(&store),
            Err(Error::LayerDamaged(_) | Error::Layer { .. })
        ));
        fs::remove_file(&path).unwrap();
        assert!(matches!(image.lower(&store), Err(Error::LayerMissing(_))));
    }

    #[test]
    fn layers_that_are_not_the_configs_are_refused() {
        let (_dir, store) = scratch();
        let image = image(&store);
        let claim = Claim::new(&store, &[DiffId([9; 32])]).unwrap();
        let new = New {
            manifest: b"{}",
            config: &image.raw_config,
            names: &[],
        };
        assert!(matches!(add(&store, claim, &new), Err(Error::Layers { .. })));
        let new = New { config: b"[]", ..new };
        let claim = Claim::new(&store, &[]).unwrap();
        assert!(matches!(add(&store, claim, &new), Err(Error::Config { .. })));
    }
}
