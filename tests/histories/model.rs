//! What should become of containers? Each step gives what may be answered, and where all of them come to be.

use std::collections::BTreeMap;

use crate::step::Step;

/// The names that containers have.
pub(crate) type Name = &'static str;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    No,
    /// `on-failure:1`.
    Once,
    Always,
}

/// What a container is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) policy: Policy,
    /// `--rm`, which goes with no policy.
    pub(crate) remove: bool,
    /// The code with which its command ends at once; it runs on if there is none.
    pub(crate) ends: Option<i32>,
}

impl Kind {
    pub(crate) fn all() -> Vec<Kind> {
        let mut all = Vec::new();
        for ends in [None, None, Some(0), Some(3)] {
            for (policy, remove) in [
                (Policy::No, false),
                (Policy::No, true),
                (Policy::Once, false),
                (Policy::Always, false),
            ] {
                all.push(Kind { policy, remove, ends });
            }
        }
        all
    }

    /// Those that are not on the move by themselves.
    pub(crate) fn still() -> Vec<Kind> {
        let mut all = Kind::all();
        all.retain(|kind| kind.ends.is_none());
        all
    }
}

/// Where a container is when nothing moves any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    /// Started again so many times.
    Running(u32),
    /// The same, and it stands still.
    Paused(u32),
    /// It ends, and is started again, and again.
    Loops,
    /// With one of these codes; of how many restarts.
    Exited(Vec<i32>, u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) kind: Kind,
    pub(crate) state: State,
}

/// All containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model(pub(crate) BTreeMap<Name, Container>, pub(crate) Pauses);

/// Can containers be paused here?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Pauses {
    /// No cgroup is the user's.
    #[default]
    No,
    Yes,
}

/// What a step may come to.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The exit code.
    pub(crate) code: i32,
    /// What is printed, if that is known.
    pub(crate) said: Option<String>,
    pub(crate) model: Model,
}

/// What two steps at once may come to.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) codes: [i32; 2],
    pub(crate) model: Model,
}

/// A killed container's code.
const KILLED: i32 = 137;

/// Where one comes to be that is started.
fn started(kind: Kind) -> Option<State> {
    match (kind.ends, kind.policy) {
        (None, _) => Some(State::Running(0)),
        (Some(_), _) if kind.remove => None,
        (Some(_), Policy::Always) => Some(State::Loops),
        (Some(code), Policy::Once) if code != 0 => Some(State::Exited(vec![code], 1)),
        (Some(code), _) => Some(State::Exited(vec![code], 0)),
    }
}

/// Where one that ran comes to be whose command was killed by somebody who did not say that it is to end.
fn shot(kind: Kind, restarts: u32) -> Option<State> {
    match kind.policy {
        _ if kind.remove => None,
        Policy::Always => Some(State::Running(restarts + 1)),
        Policy::Once if restarts == 0 => Some(State::Running(1)),
        _ => Some(State::Exited(vec![KILLED], restarts)),
    }
}

impl Model {
    fn at(&self, name: Name, state: Option<State>) -> Model {
        let mut next = self.clone();
        match state {
            Some(state) => next.0.get_mut(name).unwrap().state = state,
            None => drop(next.0.remove(name)),
        }
        next
    }

    fn gives(&self, code: i32) -> Vec<Outcome> {
        vec![Outcome {
            code,
            said: None,
            model: self.clone(),
        }]
    }

    fn moves(&self, name: Name, state: Option<State>) -> Vec<Outcome> {
        self.at(name, state).gives(0)
    }

    /// Where one comes to be that is ended for good.
    fn ended(container: &Container) -> Option<State> {
        match (&container.state, container.kind.ends) {
            (State::Running(_) | State::Paused(_) | State::Loops, _) if container.kind.remove => None,
            (State::Running(restarts) | State::Paused(restarts), _) => {
                Some(State::Exited(vec![KILLED], *restarts))
            }
            (State::Loops, code) => Some(State::Exited(vec![code.unwrap(), KILLED], u32::MAX)),
            (other, _) => Some(other.clone()),
        }
    }

    fn made(&self, name: Name, kind: Kind, state: Option<State>, taken: i32) -> Vec<Outcome> {
        if self.0.contains_key(name) {
            return self.gives(taken);
        }
        let mut next = self.clone();
        if let Some(state) = state {
            next.0.insert(name, Container { kind, state });
        }
        next.gives(0)
    }

    /// What meets one of many short runs, or none, is chance: a pause, a shot at its command or its server.
    pub(crate) fn tells(&self, step: &Step) -> bool {
        match step {
            Step::Pause(name) | Step::Shoot(name, "Pid" | "FilesystemPid") => self
                .0
                .get(name)
                .is_none_or(|container| container.state != State::Loops),
            _ => true,
        }
    }

    /// What a step may come to.
    pub(crate) fn after(&self, step: &Step) -> Vec<Outcome> {
        match *step {
            Step::Create(name, kind) => self.made(name, kind, Some(State::Created), 1),
            Step::Run(name, kind) => self.made(name, kind, started(kind), 125),
            Step::Rename(name, to) => self.renamed(name, to),
            Step::Prune => {
                let mut next = self.clone();
                next.0
                    .retain(|_, container| !matches!(container.state, State::Created | State::Exited(..)));
                next.gives(0)
            }
            Step::RemoveForced(name) if !self.0.contains_key(name) => self.gives(0),
            Step::Start(name)
            | Step::Stop(name)
            | Step::Kill(name)
            | Step::Restart(name)
            | Step::Remove(name)
            | Step::RemoveForced(name)
            | Step::Exec(name)
            | Step::Wait(name)
            | Step::Pause(name)
            | Step::Unpause(name)
            | Step::Shoot(name, _) => match self.0.get(name) {
                None => self.gives(1),
                Some(container) => self.on(name, container, step),
            },
        }
    }

    fn renamed(&self, name: Name, to: Name) -> Vec<Outcome> {
        let mut next = self.clone();
        match next.0.remove(name) {
            Some(container) if !self.0.contains_key(to) => {
                next.0.insert(to, container);
                next.gives(0)
            }
            _ => self.gives(1),
        }
    }

    fn on(&self, name: Name, container: &Container, step: &Step) -> Vec<Outcome> {
        let kind = container.kind;
        let is_paused = matches!(container.state, State::Paused(_));
        let is_up = is_paused || matches!(container.state, State::Running(_) | State::Loops);
        match step {
            Step::Start(_) | Step::Exec(_) if is_paused => self.gives(1),
            Step::Pause(_) | Step::Unpause(_) => self.paused(name, container, step),
            Step::Start(_) if is_up => self.gives(0),
            Step::Start(_) => self.moves(name, started(kind)),
            Step::Stop(_) => self.moves(name, Model::ended(container)),
            Step::Kill(_) | Step::Exec(_) | Step::Remove(_) if !is_up => match step {
                Step::Remove(_) => self.moves(name, None),
                _ => self.gives(1),
            },
            Step::Kill(_) => self.moves(name, Model::ended(container)),
            Step::Remove(_) => self.gives(1),
            Step::RemoveForced(_) => self.moves(name, None),
            Step::Restart(_) if is_up && kind.remove => self.gives(1),
            Step::Restart(_) => self.moves(name, started(kind)),
            // Between two of its runs it does not run.
            Step::Exec(_) if container.state == State::Loops => [self.gives(5), self.gives(1)].concat(),
            Step::Exec(_) => self.gives(5),
            Step::Wait(_) => self.waited(name, container),
            Step::Shoot(_, victim) => self.shot(name, container, victim),
            _ => unreachable!(),
        }
    }

    fn paused(&self, name: Name, container: &Container, step: &Step) -> Vec<Outcome> {
        match (step, &container.state) {
            (Step::Pause(_), State::Running(times)) if self.1 == Pauses::Yes => {
                self.moves(name, Some(State::Paused(*times)))
            }
            (Step::Unpause(_), State::Paused(times)) => self.moves(name, Some(State::Running(*times))),
            _ => self.gives(1),
        }
    }

    /// One that runs is killed while somebody waits.
    fn waited(&self, name: Name, container: &Container) -> Vec<Outcome> {
        let (codes, state) = match &container.state {
            State::Created => (vec![0], Some(State::Created)),
            State::Exited(codes, restarts) => (codes.clone(), Some(State::Exited(codes.clone(), *restarts))),
            State::Running(_) | State::Paused(_) => (vec![KILLED], Model::ended(container)),
            State::Loops => (vec![container.kind.ends.unwrap()], Some(State::Loops)),
        };
        let said = |code: &i32| Outcome {
            code: 0,
            said: Some(format!("{code}\n")),
            model: self.at(name, state.clone()),
        };
        let mut outcomes: Vec<Outcome> = codes.iter().map(said).collect();
        if container.kind.remove && matches!(container.state, State::Running(_) | State::Paused(_)) {
            // It may be killed, and so removed, before it is looked for.
            outcomes.extend(self.at(name, state.clone()).gives(1));
        }
        outcomes
    }

    fn shot(&self, name: Name, container: &Container, victim: &str) -> Vec<Outcome> {
        match (&container.state, victim) {
            // A supervisor is not followed.
            (State::Running(_) | State::Paused(_) | State::Loops, "supervisor") => {
                self.moves(name, Model::ended(container))
            }
            (State::Running(restarts) | State::Paused(restarts), "Pid") => {
                self.moves(name, shot(container.kind, *restarts))
            }
            // Another server goes on, or there is nothing to be killed.
            _ => self.gives(0),
        }
    }

    /// What two steps at once may come to: one order, or the other.
    pub(crate) fn pair(&self, first: &Step, second: &Step) -> Vec<Order> {
        let mut orders = Vec::new();
        for (one, other, turned) in [(first, second, false), (second, first, true)] {
            for outcome in self.after(one) {
                for then in outcome.model.after(other) {
                    let mut codes = [outcome.code, then.code];
                    if turned {
                        codes.reverse();
                    }
                    orders.push(Order {
                        codes,
                        model: then.model,
                    });
                }
            }
        }
        orders.extend(self.within(first, second));
        orders
    }

    /// Who has found a container by its name goes on with it, whatever it is called by then.
    fn renamed_beside(&self, from: Name, to: Name, other: &Step, turned: bool) -> Vec<Order> {
        if !self.0.contains_key(from) {
            return Vec::new();
        }
        let order = |outcome: Outcome| {
            let mut model = outcome.model;
            if let Some(container) = model.0.remove(from) {
                model.0.insert(to, container);
            }
            let mut codes = [0, outcome.code];
            if turned {
                codes.reverse();
            }
            Order { codes, model }
        };
        let outcomes = self.after(other).into_iter();
        outcomes
            .filter(|outcome| !outcome.model.0.contains_key(to))
            .map(order)
            .collect()
    }

    fn is_new_and_to_go(&self, name: Name) -> bool {
        let container = self.0.get(name);
        container.is_some_and(|container| container.kind.remove && container.state == State::Created)
    }

    /// What is no step of one moment: a signal is sent, and then the end is waited for; a command in the container runs for
    /// a while.
    fn within(&self, first: &Step, second: &Step) -> Vec<Order> {
        let mut more = Vec::new();
        for (one, other, turned) in [(first, second, false), (second, first, true)] {
            let is_end = |step: &Step| {
                matches!(
                    step,
                    Step::Kill(_) | Step::Stop(_) | Step::Restart(_) | Step::RemoveForced(_)
                )
            };
            if let Step::Rename(from, to) = *one {
                more.extend(self.renamed_beside(from, to, other, turned));
            }
            let codes: &[i32] = match one {
                // Both signals reach it; or it does not run at the moment, in the middle of a restart.
                Step::Kill(_) if matches!(other, Step::Restart(_)) => &[0, 1],
                Step::Kill(_) | Step::Stop(_) if is_end(other) => &[0],
                // It is refused of one that runs and would be removed; this one did not run when it was looked at.
                Step::Restart(name) if self.is_new_and_to_go(name) => &[0],
                // It is killed with its container, or does not come in any more.
                Step::Exec(_) if is_end(other) => &[KILLED, 1],
                _ => continue,
            };
            for outcome in self.after(other) {
                for code in codes {
                    let mut codes = [*code, outcome.code];
                    if turned {
                        codes.reverse();
                    }
                    more.push(Order {
                        codes,
                        model: outcome.model.clone(),
                    });
                }
            }
        }
        more
    }
}
