//! How does the network process hear its supervisor, and ask it for names? By the channel that its work came over.

use crate::containers::runtime::channel::Channel;
use crate::containers::supervisor::protocol::{Errand, Inquiry};
use crate::net::{Keeper, Word};

/// The supervisor, as the process sees it.
#[derive(Debug)]
pub(super) struct Supervisor(pub(super) Channel);

impl Keeper for Supervisor {
    fn hear(&self) -> Word {
        match self.0.receive() {
            Ok(Some((Errand::Answer { question, known }, _))) => Word::Answer { question, known },
            Ok(Some((Errand::Reach(reach), _))) => Word::Reach(reach),
            Ok(Some(_)) | Err(nix::errno::Errno::EBADMSG) => Word::Nothing,
            Ok(None) | Err(_) => Word::End,
        }
    }

    fn ask(&self, question: u64, name: &str) -> bool {
        let name = name.to_owned();
        self.0.send_now(&Inquiry { question, name }).is_ok()
    }
}
