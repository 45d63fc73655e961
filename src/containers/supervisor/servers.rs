//! Who answers for all that a container sees of layers? One server for its root, and one for each view beside it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use fuse_overlay::union::Lower;

use super::protocol::After;
use super::server::{Server, ServerError};
use crate::containers::storage::Storage;
use crate::containers::view::View;
use crate::host::IdMaps;

pub(super) struct Servers {
    /// That of the container's root.
    pub(super) root: Server,
    views: Vec<Server>,
}

impl Servers {
    /// Forks them. `close` drops what is the supervisor's alone, in each.
    pub(super) fn fork(
        (image, upper, storage): (Lower, &Path, Storage),
        views: Vec<View>,
        mut close: impl FnMut(),
    ) -> Result<Servers, ServerError> {
        // The views' come first: the root's holds their channels as well, and lets go of them at its own end.
        let views: Result<Vec<Server>, ServerError> = views
            .into_iter()
            .map(|view| Server::fork(view.lower, &view.place, Storage::default(), &mut close))
            .collect();
        Ok(Servers {
            views: views?,
            root: Server::fork(image, upper, storage, &mut close)?,
        })
    }

    /// Hands each its connection, waits until it has opened what it shows, and watches it. `after`: what becomes of what is
    /// written to the root once the container has ended. On `page` the root's notes what programs touch first.
    pub(super) fn serve(
        &mut self,
        ids: &IdMaps,
        (root, views): (Vec<OwnedFd>, Vec<Vec<OwnedFd>>),
        (after, page): (After, Option<OwnedFd>),
    ) -> Result<(), ServerError> {
        self.root.serve(ids, root, (after, page))?;
        for (view, devices) in self.views.iter().zip(views) {
            view.serve(ids, devices, (After::Removed, None))?;
        }
        for server in self.all_mut() {
            server.opened()?;
            server.watch()?;
        }
        Ok(())
    }

    /// Tells them whom to kill when the supervisor dies.
    pub(super) fn guard(&self, init: &OwnedFd) -> io::Result<()> {
        let mut all = std::iter::once(&self.root).chain(&self.views);
        all.try_for_each(|server| server.guard(init))
    }

    /// How one of them died before the container did, and nobody could follow it.
    pub(super) fn lost(&self) -> Option<String> {
        let mut all = std::iter::once(&self.root).chain(&self.views);
        all.find_map(Server::lost)
    }

    /// Ends those of the views, when the container has ended. Gives that of the root.
    pub(super) fn end_views(self) -> Server {
        self.views.into_iter().for_each(Server::kill);
        self.root
    }

    /// Ends them at once: nothing that they hold is wanted.
    pub(super) fn kill(self) {
        self.end_views().kill();
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        std::iter::once(&mut self.root).chain(&mut self.views)
    }
}
