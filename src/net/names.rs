//! Which names does somebody beside us know? Before a question goes to the host's name servers, it is asked there: for the names
//! of containers.

use std::fmt::Debug;
use std::net::IpAddr;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::PTR;
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use serde::{Deserialize, Serialize};

/// How long a container's resolver may keep an answer, in seconds: none at all, since names move.
const TTL: u32 = 0;
/// More addresses than these fit into no plain answer.
const MOST: usize = 16;
/// A name may take 255 bytes.
const MOST_NAMES: usize = 1;

/// What somebody beside us says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// The container has ended: see [`super::Network::orders`].
    End,
    /// What is known about the name that this question was about.
    Answer {
        /// The question's number.
        question: u64,
        /// `None`: nobody that is known has it.
        known: Option<Known>,
    },
    /// What the container may do from now on.
    Reach(Reach),
    /// Nothing that concerns us.
    Nothing,
}

/// What is known about a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// Who has it.
    Addresses(Vec<IpAddr>),
    /// It stands for an address ([`reversed`]), which has these names.
    Names(Vec<String>),
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
pub fn reversed(name: &str) -> Option<IpAddr> {
    let mut name = Name::from_ascii(name).ok()?;
    // With the last dot, or it is not read as one.
    name.set_fqdn(true);
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

/// How far a container reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reach {
    /// Beyond the networks that it is on.
    pub outside: bool,
    /// It is on some whose names we are to ask for.
    pub names: bool,
}

/// Who stays beside us. Called by one thread.
pub trait Keeper: Debug + Send {
    /// Hears what is there to be heard, without waiting.
    fn hear(&self) -> Word;
    /// Asks for a name, without waiting; `false`: it cannot be asked now.
    fn ask(&self, question: u64, name: &str) -> bool;
}

/// A question for the addresses of one name.
#[derive(Debug, Clone)]
pub(super) struct Question {
    id: u16,
    wants_recursion: bool,
    query: Query,
}

impl Question {
    /// Reads a message; `None` for what is no such question.
    pub(super) fn read(bytes: &[u8]) -> Option<Question> {
        let message = Message::from_vec(bytes).ok()?;
        let head = &message.metadata;
        let [query] = message.queries.as_slice() else {
            return None;
        };
        let fits = head.message_type == MessageType::Query
            && head.op_code == OpCode::Query
            && query.query_class() == DNSClass::IN;
        fits.then(|| Question {
            id: head.id,
            wants_recursion: head.recursion_desired,
            query: query.clone(),
        })
    }

    /// The name, without the last dot.
    pub(super) fn name(&self) -> String {
        let mut name = self.query.name().to_ascii();
        if name.ends_with('.') {
            name.pop();
        }
        name
    }

    /// The answer: what is known of the kind that was asked for. A name without any of that kind is there all the same.
    pub(super) fn answer(&self, known: &Known) -> Option<Vec<u8>> {
        let mut message = self.reply(ResponseCode::NoError);
        let kind = self.query.query_type();
        let address = |address: &IpAddr| match (address, kind) {
            (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => Some(RData::A((*v4).into())),
            (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA((*v6).into())),
            _ => None,
        };
        let name = |name: &String| {
            let wanted = matches!(kind, RecordType::PTR | RecordType::ANY);
            let name = Name::from_ascii(name).ok().filter(|_| wanted)?;
            Some(RData::PTR(PTR(name)))
        };
        let data: Vec<RData> = match known {
            Known::Addresses(addresses) => addresses.iter().filter_map(address).take(MOST).collect(),
            Known::Names(names) => names.iter().filter_map(name).take(MOST_NAMES).collect(),
        };
        for data in data {
            message.add_answer(Record::from_rdata(self.query.name().clone(), TTL, data));
        }
        message.to_vec().ok()
    }

    /// That nobody can be asked.
    pub(super) fn refusal(&self) -> Option<Vec<u8>> {
        self.reply(ResponseCode::ServFail).to_vec().ok()
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.recursion_desired = self.wants_recursion;
        message.metadata.recursion_available = true;
        message.add_query(self.query.clone());
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::Name;

    fn question(kind: RecordType) -> Question {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("Web.").unwrap(), kind));
        Question::read(&message.to_vec().unwrap()).unwrap()
    }

    #[test]
    fn a_name_has_the_addresses_that_were_asked_for() {
        let both = Known::Addresses(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        for (kind, count) in [
            (RecordType::A, 1),
            (RecordType::AAAA, 1),
            (RecordType::MX, 0),
            (RecordType::PTR, 0),
            (RecordType::ANY, 2),
        ] {
            let question = question(kind);
            assert_eq!(question.name(), "Web");
            let answer = Message::from_vec(&question.answer(&both).unwrap()).unwrap();
            assert_eq!(answer.answers.len(), count, "{kind}");
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert_eq!(answer.metadata.id, question.id);
        }
        let many = Known::Addresses((0..=255).map(|last| [10, 0, 0, last].into()).collect());
        assert!(question(RecordType::A).answer(&many).unwrap().len() <= 512);
    }

    #[test]
    fn an_address_has_a_name() {
        let known = Known::Names(vec!["web.one".into()]);
        let answer = Message::from_vec(&question(RecordType::PTR).answer(&known).unwrap()).unwrap();
        let [record] = answer.answers.as_slice() else {
            panic!("{answer:?}");
        };
        assert_eq!(record.data.to_string().trim_end_matches('.'), "web.one");
        let answer = question(RecordType::A).answer(&known).unwrap();
        assert!(Message::from_vec(&answer).unwrap().answers.is_empty());
        for (name, address) in [
            ("4.3.2.10.in-addr.arpa", Some("10.2.3.4")),
            ("3.2.10.in-addr.arpa", None),
            ("web", None),
            ("4.3.2.1", None),
            ("256.3.2.1.in-addr.arpa", None),
        ] {
            assert_eq!(
                reversed(name),
                address.map(|text| text.parse().unwrap()),
                "{name}"
            );
        }
        let v6 = "1.".to_owned() + &"0.".repeat(29) + "d.f.IP6.ARPA";
        assert_eq!(reversed(&v6), Some("fd00::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_question_is_none() {
        assert!(Question::read(b"").is_none() && Question::read(&[0; 12]).is_none());
        let answer = question(RecordType::A)
            .answer(&Known::Addresses(Vec::new()))
            .unwrap();
        assert!(Question::read(&answer).is_none());
        assert!(Question::read(&[0xff; 512]).is_none());
    }
}
