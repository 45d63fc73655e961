//! Where does an image for several platforms go, or one of which something is said? To a registry, or into an archive: as a
//! list of images, one a platform, and of what is said of them. A directory gets one for each tree. The store's own list has
//! one image under a name, so it takes none.

use std::iter;

use super::{Delivery, Output, Part, Sending, Trust};
use crate::build::Error;
use crate::build::attest::platform_of;
use crate::build::order::Order;
use crate::images::commit::Described;
use crate::images::manifest::{Descriptor, Platform};
use crate::images::platforms::{self, ForPlatform, List};
use crate::images::reference::Reference;
use crate::images::registry::Registries;
use crate::images::save::Format;

impl Output {
    /// Whether what is for so many platforms, or as one of several, can go there.
    pub(in crate::build) fn takes(&self, platforms: &[Platform], lists: bool) -> Result<(), Error> {
        let why = match self {
            _ if platforms.len() < 2 && !lists => return Ok(()),
            Output::Image { push: None, .. } if platforms.len() < 2 => return Ok(()),
            Output::Image { push: None, .. } => {
                "a store's image is for one platform; several go to a registry (--push) or into an archive (--output type=oci), so an image for several in the store"
            }
            Output::Archive {
                format: Format::Docker,
                ..
            } => "an archive of Docker's format has images for one platform; for several it",
            Output::Tar(_) => "a tar has one tree; an image for several platforms in it",
            _ => return Ok(()),
        };
        Err(Error::Unsupported(why.into()))
    }
}

impl Order {
    /// Is what goes there one of several, or as one?
    pub(super) fn is_several(&self, output: &Output) -> bool {
        // Under a name of the store is one image, whatever it is asked to be.
        let alone = matches!(output, Output::Image { push: None, .. });
        self.attests.concern(output) || self.platforms.len() > 1 || self.lists && !alone
    }

    /// Is it a list of images?
    pub fn makes_list(&self, output: &Output) -> bool {
        self.is_several(output) && !matches!(output, Output::Directory(_) | Output::Tar(_))
    }
}

impl Delivery<'_> {
    pub(super) fn put_list(
        &self,
        output: &Output,
        parts: &[Part],
    ) -> Result<(u8, Option<Descriptor>), Error> {
        let ordered = self.order.platforms.iter().map(Some).chain(iter::repeat(None));
        let platforms: Vec<(Platform, &Part)> = ordered
            .zip(parts)
            .map(|(ordered, part)| (platform_of(ordered, &part.image), part))
            .collect();
        let list = |names: &[Reference], described: &Described| List {
            images: platforms
                .iter()
                .map(|(platform, part)| ForPlatform {
                    platform: platform.clone(),
                    image: part.image.clone(),
                    annotations: described.annotations.clone(),
                    statements: match self.order.attests.concern(output) {
                        true => part.statements.clone(),
                        false => Vec::new(),
                    },
                })
                .collect(),
            family: described.family,
            annotations: described.index.clone(),
            names: names.to_vec(),
            packing: described.packing,
        };
        Ok(match output {
            Output::Image {
                names,
                described,
                push,
            } => {
                if let [part] = parts {
                    self.list(part, names, described)?;
                }
                let (list, trust) = (list(names, described), push.unwrap_or(Trust::Verified));
                let push = |name: &Reference, registries: &Registries, heard: &Sending<'_>| {
                    platforms::push(self.store, &list, name, registries, heard)
                };
                (2, self.send(names, trust, push)?)
            }
            Output::Archive { names, described, .. } | Output::Layout { names, described, .. } => {
                let list = list(names, described);
                let made = output.written(|to| platforms::save(self.store, &list, names, to))?;
                (1, Some(made))
            }
            Output::Directory(to) => {
                for (platform, part) in &platforms {
                    // BuildKit's names.
                    let below = to.join(platform.to_string().replace('/', "_"));
                    part.target.write_directory(self.store, &below)?;
                }
                (0, None)
            }
            Output::Tar(_) => (0, None), // never: see `takes`
        })
    }
}
