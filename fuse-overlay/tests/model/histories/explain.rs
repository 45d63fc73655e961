//! Is there an order, one operation after the other, that gives these answers and this tree? Found by trying: an operation
//! may come next unless another one had ended before it began. What was tried in vain from a state is remembered.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use fuse_overlay::attr::Kind;
use nix::errno::Errno;

use super::{Op, THREADS, XATTR};
use crate::harness::pattern;
use crate::reference::{Body, Id, Reference, Res};

/// What an operation answered.
pub type Answer = Res<Seen>;

#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Nothing,
    /// Made or found.
    Inode(Id),
    Names(BTreeMap<Vec<u8>, Id>),
    Bytes(Vec<u8>),
    Attributes {
        perm: u16,
        nlink: u32,
    },
}

/// An operation of a thread, with the moments at which it began and ended.
#[derive(Clone, PartialEq)]
pub struct Event {
    pub op: Op,
    pub begin: u64,
    pub end: u64,
    pub answer: Answer,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event {
            op,
            begin,
            end,
            answer,
        } = self;
        write!(f, "{begin}-{end} {op:?} => ")?;
        match answer {
            Ok(Seen::Bytes(bytes)) => write!(f, "{} bytes", bytes.len()),
            answer => write!(f, "{answer:?}"),
        }
    }
}

/// A round that no order explains.
#[derive(Debug)]
pub struct Unexplained {
    before: Reference,
    threads: Vec<Vec<Event>>,
    after: Reference,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no order explains this\nbefore:")?;
        show(f, &self.before)?;
        for thread in &self.threads {
            writeln!(f, "thread: {thread:#?}")?;
        }
        writeln!(f, "after:")?;
        show(f, &self.after)
    }
}

fn show(f: &mut fmt::Formatter<'_>, tree: &Reference) -> fmt::Result {
    for (id, node) in &tree.nodes {
        write!(f, "  {id}: {:o} {} links ", node.perm, node.nlink)?;
        match &node.body {
            Body::Dir { entries, parent } => {
                let entries = entries
                    .iter()
                    .map(|(name, id)| (String::from_utf8_lossy(name), id));
                writeln!(f, "in {parent} {:?}", entries.collect::<Vec<_>>())?;
            }
            Body::File(content) => writeln!(f, "{} bytes", content.len())?,
            other => writeln!(f, "{other:?}")?,
        }
    }
    Ok(())
}

/// Fails if no order of the operations leads from one tree to the other with the answers that were given.
pub fn explain(before: &Reference, threads: &[Vec<Event>], after: &Reference) -> Result<(), Unexplained> {
    let held = before.nodes.keys().copied().collect();
    let mut search = Search {
        threads,
        after,
        held,
        vain: HashMap::new(),
    };
    if search.leads_on(before.clone(), [0; THREADS]) {
        return Ok(());
    }
    Err(Unexplained {
        before: before.clone(),
        threads: threads.to_vec(),
        after: after.clone(),
    })
}

/// How many operations of each thread are done.
type Done = [usize; THREADS];

struct Search<'a> {
    threads: &'a [Vec<Event>],
    after: &'a Reference,
    held: Vec<Id>,
    /// States from which no order leads to the end.
    vain: HashMap<Done, Vec<Reference>>,
}

impl Search<'_> {
    fn leads_on(&mut self, state: Reference, done: Done) -> bool {
        let next = |thread: usize| Some((thread, self.threads.get(thread)?.get(done[thread])?));
        let next: Vec<_> = (0..THREADS).filter_map(next).collect();
        let Some(first_end) = next.iter().map(|(_, event)| event.end).min() else {
            return state.reachable(&self.held) == *self.after;
        };
        if self.vain.get(&done).is_some_and(|states| states.contains(&state)) {
            return false;
        }
        for (thread, event) in next {
            let mut state = state.clone();
            if event.begin < first_end && apply(&mut state, &event.op, &event.answer) == event.answer {
                let mut done = done;
                done[thread] += 1;
                if self.leads_on(state, done) {
                    return true;
                }
            }
        }
        self.vain.entry(done).or_default().push(state);
        false
    }
}

/// Does it to the reference. A new inode gets the number that the filesystem gave it.
fn apply(tree: &mut Reference, op: &Op, answer: &Answer) -> Answer {
    if let Ok(Seen::Inode(id)) = answer {
        tree.next = *id;
    }
    // Nothing moves into a directory that is gone; of several reasons any may be told.
    if let Op::Rename(_, _, to, ..) = op
        && tree.node(*to).nlink == 0
        && matches!(answer, Err(Errno::ENOENT | Errno::EINVAL))
    {
        return answer.clone();
    }
    let seen = answer_of(tree, op);
    tree.next = 0;
    seen
}

fn answer_of(tree: &mut Reference, op: &Op) -> Answer {
    let nothing = |result: Res<()>| result.map(|()| Seen::Nothing);
    match *op {
        Op::Create(dir, name) => {
            let body = Body::File(Vec::new());
            tree.make(dir, Some(name.as_bytes()), Kind::Regular, 0o644, body)
                .map(Seen::Inode)
        }
        Op::Mkdir(dir, name) => {
            let body = Body::Dir {
                entries: BTreeMap::new(),
                parent: dir,
            };
            tree.make(dir, Some(name.as_bytes()), Kind::Directory, 0o755, body)
                .map(Seen::Inode)
        }
        Op::Unlink(dir, name) => nothing(tree.unlink(dir, name.as_bytes())),
        Op::Rmdir(dir, name) => nothing(tree.rmdir(dir, name.as_bytes())),
        Op::Rename(from, one, to, other, how) => {
            nothing(tree.rename((from, one.as_bytes()), (to, other.as_bytes()), how))
        }
        Op::Link(file, dir, name) => {
            nothing(tree.link(file, dir, name.as_bytes())).map(|_| Seen::Inode(file))
        }
        Op::Lookup(dir, name) => tree.lookup(dir, name.as_bytes()).map(Seen::Inode),
        Op::List(dir) => tree.entries(dir).map(|entries| Seen::Names(entries.clone())),
        Op::Attributes(id) => {
            let node = tree.node(id);
            Ok(Seen::Attributes {
                perm: node.perm,
                nlink: node.nlink,
            })
        }
        Op::Read(file, offset, length) => {
            let content = tree.content(file)?;
            let end = content.len().min(offset + length);
            Ok(Seen::Bytes(content.get(offset..end).unwrap_or_default().to_vec()))
        }
        Op::Write(file, offset, length, byte) => {
            nothing(tree.write(file, offset, &pattern(byte, length), false))
        }
        Op::Truncate(file, size) => nothing(tree.truncate(file, size)),
        Op::Chmod(file, perm) => {
            tree.node(file).perm = perm;
            Ok(Seen::Nothing)
        }
        Op::SetXattr(file, byte, how) => nothing(tree.set_xattr(file, XATTR.as_bytes(), &[byte], how)),
        Op::RemoveXattr(file) => nothing(tree.remove_xattr(file, XATTR.as_bytes())),
    }
}

/// An empty root.
#[cfg(test)]
fn empty() -> Reference {
    use crate::reference::{Node, ROOT};
    let body = Body::Dir {
        entries: BTreeMap::new(),
        parent: ROOT,
    };
    let kind = Kind::Directory;
    let root = Node {
        kind,
        perm: 0o755,
        uid: 0,
        gid: 0,
        nlink: 2,
        mtime: None,
        xattrs: BTreeMap::new(),
        body,
    };
    Reference {
        nodes: BTreeMap::from([(ROOT, root)]),
        next: 0,
    }
}

#[test]
fn what_cannot_be_is_not_explained() {
    let event = |op, begin, end, answer| Event {
        op,
        begin,
        end,
        answer,
    };
    let create = |begin, end, answer| event(Op::Create(0, "a"), begin, end, answer);
    let (made, other) = (Ok(Seen::Inode(7)), Ok(Seen::Inode(8)));
    let mut one = empty();
    apply(&mut one, &Op::Create(0, "a"), &made).unwrap();
    let explained = |threads: &[Vec<Event>], after: &Reference| explain(&empty(), threads, after).is_ok();
    // Of two who make one name at once, one succeeds, whichever.
    let twice = |first: &Answer, second: &Answer| {
        [
            vec![create(0, 2, first.clone())],
            vec![create(1, 3, second.clone())],
        ]
    };
    assert!(explained(&twice(&made, &Err(Errno::EEXIST)), &one));
    assert!(explained(&twice(&Err(Errno::EEXIST), &made), &one));
    assert!(!explained(&twice(&made, &other), &one));
    assert!(!explained(
        &twice(&Err(Errno::EEXIST), &Err(Errno::EEXIST)),
        &empty()
    ));
    // A tree that no order leads to.
    assert!(!explained(&twice(&made, &Err(Errno::EEXIST)), &empty()));
    // A look that began when the name was there must find it; one that overlaps may or may not.
    let look = |begin, answer| event(Op::Lookup(0, "a"), begin, 9, answer);
    let looked = |begin, answer| [vec![create(0, 5, made.clone())], vec![look(begin, answer)]];
    assert!(explained(&looked(3, Err(Errno::ENOENT)), &one));
    assert!(explained(&looked(3, made.clone()), &one));
    assert!(explained(&looked(6, made.clone()), &one));
    assert!(!explained(&looked(6, Err(Errno::ENOENT)), &one));
    // Each thread's own order counts.
    let own = [vec![look(3, Err(Errno::ENOENT)), create(10, 11, made.clone())]];
    assert!(explained(&own, &one));
    let own = [vec![create(0, 1, made.clone()), look(3, Err(Errno::ENOENT))]];
    assert!(!explained(&own, &one));
}
