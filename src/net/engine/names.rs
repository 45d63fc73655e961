//! What does the container ask for by name? Somebody beside us may know; else the question goes its way.

use std::collections::BTreeMap;

use super::Engine;
use crate::net::names::{Keeper, Known, Question, Reach, Word};
use crate::net::packet::{self, Ends};
use crate::net::tcp::Wire as _;

/// Questions that wait for an answer; the oldest is forgotten for one more, and its asker asks again.
const MOST: usize = 64;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// Who sent a datagram.
    Datagram(Ends),
    /// A connection, by its number.
    Stream(u64),
}

/// Who is asked, and what.
#[derive(Debug)]
pub(super) struct Names {
    keeper: Option<Box<dyn Keeper>>,
    pub(super) reach: Reach,
    waiting: BTreeMap<u64, (Asker, Question, Vec<u8>)>,
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

    /// Is whoever knows names asked first?
    pub(super) fn are_kept(&self) -> bool {
        self.reach.names || !self.reach.outside
    }
}

impl Engine {
    /// A question for the name server. What may be about a container waits for whoever knows.
    pub(super) fn question(&mut self, asker: Asker, payload: &[u8]) {
        let names = &mut self.names;
        if !names.are_kept() {
            return self.question_outside(asker, payload);
        }
        let Some(question) = Question::read(payload) else {
            return self.question_outside(asker, payload);
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
                .insert(names.last, (asker, question, payload.to_vec()));
        } else if let Asker::Stream(id) = asker {
            self.hang_up(id);
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
            Word::Answer { question, known } => self.answered(question, known),
            Word::Nothing => {}
        }
    }

    fn answered(&mut self, number: u64, known: Option<Known>) {
        let Some((asker, question, payload)) = self.names.waiting.remove(&number) else {
            return;
        };
        let reply = match known {
            Some(known) => question.answer(&known),
            None if self.names.reach.outside => return self.question_outside(asker, &payload),
            None => question.refusal(),
        };
        match (asker, reply) {
            (Asker::Datagram(ends), Some(reply)) => {
                self.device.put(&packet::datagram(&ends, reply.len()), &reply);
            }
            (Asker::Stream(id), Some(reply)) => self.tell_asker(id, &reply),
            (Asker::Stream(id), None) => self.hang_up(id),
            (Asker::Datagram(_), None) => {}
        }
    }

    /// To the host's name servers, if the container may ask them.
    fn question_outside(&mut self, asker: Asker, payload: &[u8]) {
        match asker {
            Asker::Datagram(ends) if self.names.reach.outside => self.forward(ends, payload),
            Asker::Stream(id) if self.names.reach.outside => self.ask_outside(id, payload, 0),
            Asker::Stream(id) => self.hang_up(id),
            Asker::Datagram(_) => {}
        }
    }
}
