//! What does the container ask for by name? Somebody beside us may know; else the question goes its way.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Engine;
use crate::net::names::{Keeper, Question, Reach, Word};
use crate::net::packet::{self, Ends};
use crate::net::tcp::Wire as _;

/// Questions that wait for an answer; the oldest is forgotten for one more, and its asker asks again.
const MOST: usize = 64;

/// Who is asked, and what.
#[derive(Debug)]
pub(super) struct Names {
    keeper: Option<Box<dyn Keeper>>,
    pub(super) reach: Reach,
    waiting: BTreeMap<u64, (Ends, Question, Vec<u8>)>,
    last: u64,
}

impl Names {
    pub(super) fn new(keeper: Option<Box<dyn Keeper>>, reach: Reach) -> Names {
        Names {
            keeper,
            reach,
            waiting: BTreeMap::new(),
            last: 0,
        }
    }
}

impl Engine {
    /// A datagram for the name server. What may be about a container waits for whoever knows.
    pub(super) fn question(&mut self, ends: Ends, payload: &[u8]) {
        let names = &mut self.names;
        if !names.reach.names && names.reach.outside {
            return self.question_outside(ends, payload);
        }
        let Some(question) = Question::read(payload) else {
            return self.question_outside(ends, payload);
        };
        // Nobody answers any more, and who asked is gone.
        if self.drain.is_some() {
            return;
        }
        names.last += 1;
        let asked = |keeper: &dyn Keeper| keeper.ask(names.last, &question.name());
        if names.keeper.as_deref().is_some_and(asked) {
            if names.waiting.len() >= MOST {
                names.waiting.pop_first();
            }
            names
                .waiting
                .insert(names.last, (ends, question, payload.to_vec()));
        }
        // One that cannot be asked now is asked again: who waits for an answer repeats the question.
    }

    /// Somebody beside us says something.
    pub(super) fn hear(&mut self) {
        match self
            .names
            .keeper
            .as_ref()
            .map_or(Word::End, |keeper| keeper.hear())
        {
            Word::End => self.drain(),
            Word::Reach(reach) => {
                if !reach.outside {
                    // What began while there was a way out ends with it.
                    self.connections.end();
                    self.flows.end();
                }
                self.names.reach = reach;
            }
            Word::Answer { question, addresses } => self.answered(question, addresses),
            Word::Nothing => {}
        }
    }

    fn answered(&mut self, number: u64, addresses: Option<Vec<IpAddr>>) {
        let Some((ends, question, payload)) = self.names.waiting.remove(&number) else {
            return;
        };
        let reply = match addresses {
            Some(addresses) => question.answer(&addresses),
            None if self.names.reach.outside => return self.question_outside(ends, &payload),
            None => question.refusal(),
        };
        if let Some(reply) = reply {
            self.device.put(&packet::datagram(&ends, reply.len()), &reply);
        }
    }

    /// To the host's name servers, if the container may ask them.
    fn question_outside(&mut self, ends: Ends, payload: &[u8]) {
        if self.names.reach.outside {
            self.forward(ends, payload);
        }
    }
}
