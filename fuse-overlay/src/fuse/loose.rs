//! What does a tree answer to these bytes? A server without a kernel, for the fuzzer, which sends what no kernel would.

use super::adapter::{Adapter, Answering, End};
use super::ids::IdMap;
use super::reply::Reply;
use super::touched::Notes;
use crate::union::Tree;

/// A server that no device leads to.
#[allow(missing_debug_implementations)]
pub struct Loose {
    adapter: Adapter,
    reply: Reply,
}

impl Loose {
    /// Serves this tree to whoever calls.
    pub fn new(tree: Tree, ids: IdMap) -> Loose {
        Loose {
            adapter: Adapter::new(tree, ids, Notes::default()),
            reply: Reply::new(),
        }
    }

    /// The answer to a message of the kernel's; `None` if it wants none. `again`: as a server gives it that takes over.
    pub fn answer(&mut self, message: &[u8], again: bool) -> Option<&[u8]> {
        let answering = match again {
            true => Answering::Again,
            false => Answering::First,
        };
        let end = self.adapter.handle(message, &mut self.reply, answering);
        (end == End::Answered).then(|| self.reply.message())
    }

    /// What it serves.
    pub fn tree(&self) -> &Tree {
        &self.adapter.tree
    }
}
