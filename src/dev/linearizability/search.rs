//! The search for one order of all operations in which every answer is right, and that agrees with the times at which they were called and answered.
//!
//! Depth first: an operation that nobody must follow yet is taken if its answer is right in the state so far. Where the next answer that was given
//! belongs to an operation that cannot be taken, the last choice was wrong. A set of operations taken that leads to the same state is tried once.

use std::collections::HashSet;

use crate::guarantees::{Log, changes, same};
use crate::history::{Call, Operation, Outcome};
use crate::model::{Leases, State};

/// Steps after which a search gives up.
const STEPS_MAX: u64 = 30_000_000;

/// Operations at the end of the longest order that are shown.
const SHOWN_OPERATIONS: usize = 12;

/// The operations in their order, each with the state after it.
pub(crate) type Order = Vec<(usize, State)>;

#[derive(Debug)]
pub(crate) enum Failure {
    /// No order exists. The longest that was found ends with these operations and leads to this state, and the answer of the one that is unfit fits
    /// nowhere after it.
    Violation {
        last: Vec<usize>,
        state: State,
        unfit: usize,
    },
    GaveUp,
}

pub(crate) fn order(history: &[Operation], leases: Leases, heard: &Log) -> Result<Order, Failure> {
    Search::new(history, leases, heard).run()
}

/// A call or an answer.
#[derive(Clone, Copy)]
struct Event {
    operation: usize,
    is_answer: bool,
}

struct Search<'a> {
    history: &'a [Operation],
    leases: Leases,
    /// What watchers heard of each revision: where answers leave the order open, it decides.
    heard: &'a Log,
    events: Vec<Event>,
    /// The events that are left, as a list: of each the next and the one before; one place more for both ends.
    next: Vec<usize>,
    before: Vec<usize>,
    /// Where the answer of an operation is, if there is one.
    answers: Vec<Option<usize>>,
    answers_left: usize,
    taken: Taken,
    tried: HashSet<(Taken, State)>,
}

/// The longest order that was found, and what its end looks like.
struct Longest {
    length: usize,
    last: Vec<usize>,
    state: State,
    unfit: usize,
}

/// A choice that can be taken back.
struct Choice {
    call: usize,
    before: State,
    after: State,
    /// Other states that the same operation may lead to.
    others: Vec<State>,
}

/// Which operations were taken: all before `all`, and some behind.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken {
    all: usize,
    some: Vec<usize>,
}

impl Taken {
    fn add(&mut self, operation: usize) {
        let at = self.some.partition_point(|other| *other < operation);
        self.some.insert(at, operation);
        while self.some.first() == Some(&self.all) {
            self.some.remove(0);
            self.all += 1;
        }
    }

    fn remove(&mut self, operation: usize) {
        if operation < self.all {
            let behind = operation + 1..self.all;
            self.some.splice(0..0, behind);
            self.all = operation;
        } else {
            self.some.retain(|other| *other != operation);
        }
    }
}

impl<'a> Search<'a> {
    fn new(history: &'a [Operation], leases: Leases, heard: &'a Log) -> Self {
        let mut events = Vec::new();
        for (operation, of) in history.iter().enumerate() {
            let call = Event {
                operation,
                is_answer: false,
            };
            events.push((of.called, 0, call));
            if of.outcome != Outcome::Unknown {
                let answer = Event {
                    operation,
                    is_answer: true,
                };
                events.push((of.returned, 1, answer));
            }
        }
        events.sort_by_key(|(time, kind, event)| (*time, *kind, event.operation));
        let events: Vec<Event> = events.into_iter().map(|(_, _, event)| event).collect();
        let mut answers = vec![None; history.len()];
        for (at, event) in events
            .iter()
            .enumerate()
            .filter(|(_, event)| event.is_answer)
        {
            answers[event.operation] = Some(at);
        }
        let places = events.len() + 1;
        Self {
            history,
            leases,
            heard,
            answers_left: answers.iter().flatten().count(),
            answers,
            // The place after the last event is before the first one.
            next: (1..places).chain([0]).collect(),
            before: [places - 1].into_iter().chain(0..places - 1).collect(),
            events,
            taken: Taken {
                all: 0,
                some: Vec::new(),
            },
            tried: HashSet::new(),
        }
    }

    fn run(mut self) -> Result<Order, Failure> {
        let end = self.events.len();
        let mut choices: Vec<Choice> = Vec::new();
        let mut state = State::empty();
        let mut longest = Longest {
            length: 0,
            last: Vec::new(),
            state: state.clone(),
            unfit: 0,
        };
        let mut at = self.next[end];
        for _ in 0..STEPS_MAX {
            if self.answers_left == 0 {
                return Ok(self.taken_order(choices));
            }
            let event = self.events[at];
            if !event.is_answer {
                match self.take(at, &state) {
                    Some(choice) => {
                        state = choice.after.clone();
                        choices.push(choice);
                        at = self.next[end];
                    }
                    None => at = self.next[at],
                }
                continue;
            }
            if choices.len() >= longest.length {
                let from = choices.len().saturating_sub(SHOWN_OPERATIONS);
                let last = choices[from..].iter();
                longest = Longest {
                    length: choices.len(),
                    last: last
                        .map(|choice| self.events[choice.call].operation)
                        .collect(),
                    state: state.clone(),
                    unfit: event.operation,
                };
            }
            let Some(earlier) = self.take_back(&mut choices) else {
                let Longest {
                    last, state, unfit, ..
                } = longest;
                return Err(Failure::Violation { last, state, unfit });
            };
            (at, state) = earlier;
        }
        Err(Failure::GaveUp)
    }

    fn taken_by(&self, choice: &Choice) -> (usize, State) {
        (self.events[choice.call].operation, choice.after.clone())
    }

    fn taken_order(&self, choices: Vec<Choice>) -> Order {
        choices.iter().map(|choice| self.taken_by(choice)).collect()
    }

    /// Takes the operation of a call if its answer is right and nobody tried the same before.
    fn take(&mut self, call: usize, state: &State) -> Option<Choice> {
        let operation = self.events[call].operation;
        let mut after = state.after(&self.history[operation], self.leases);
        if self.history[operation].call != Call::Crash {
            after.retain(|next| self.is_as_heard(state, next));
        }
        if after.is_empty() {
            return None;
        }
        self.take_one_of(call, state.clone(), after)
    }

    fn is_as_heard(&self, before: &State, after: &State) -> bool {
        let heard = self.heard.get(&after.revision);
        after.revision == before.revision
            || heard.is_none_or(|heard| same(heard, &changes(&before.entries, &after.entries)))
    }

    fn take_one_of(&mut self, call: usize, before: State, mut after: Vec<State>) -> Option<Choice> {
        let operation = self.events[call].operation;
        self.taken.add(operation);
        while let Some(state) = after.pop() {
            if self.tried.insert((self.taken.clone(), state.clone())) {
                self.lift(call);
                return Some(Choice {
                    call,
                    before,
                    after: state,
                    others: after,
                });
            }
        }
        self.taken.remove(operation);
        None
    }

    /// Takes back the last choice that had an alternative; returns where to go on, and in which state.
    fn take_back(&mut self, choices: &mut Vec<Choice>) -> Option<(usize, State)> {
        let Choice {
            call,
            before,
            others,
            ..
        } = choices.pop()?;
        self.unlift(call);
        self.taken.remove(self.events[call].operation);
        if let Some(other) = self.take_one_of(call, before.clone(), others) {
            let state = other.after.clone();
            choices.push(other);
            return Some((self.next[self.events.len()], state));
        }
        Some((self.next[call], before))
    }

    fn lift(&mut self, call: usize) {
        self.unlink(call);
        if let Some(answer) = self.answers[self.events[call].operation] {
            self.unlink(answer);
            self.answers_left -= 1;
        }
    }

    fn unlift(&mut self, call: usize) {
        if let Some(answer) = self.answers[self.events[call].operation] {
            self.link(answer);
            self.answers_left += 1;
        }
        self.link(call);
    }

    fn unlink(&mut self, at: usize) {
        let (before, next) = (self.before[at], self.next[at]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn link(&mut self, at: usize) {
        let (before, next) = (self.before[at], self.next[at]);
        self.next[before] = at;
        self.before[next] = at;
    }
}

/// Operations that say nothing about the order: reads without an answer, and reads of the past, which are checked against the order afterwards.
pub(crate) fn has_a_place(operation: &Operation) -> bool {
    match operation.call {
        Call::Read { .. } => operation.outcome != Outcome::Unknown,
        Call::ReadOld { .. } => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(history: &[Operation], leases: Leases) -> Result<Order, Failure> {
        super::order(history, leases, &Log::new())
    }

    use crate::history::{Entries, Write};

    fn put(times: (u64, u64), value: u64, outcome: Outcome) -> Operation {
        let writes = vec![Write::Put {
            key: 0,
            value,
            lease: 0,
        }];
        Operation {
            called: times.0,
            returned: times.1,
            epoch: 0,
            call: Call::Write {
                condition: None,
                writes,
            },
            outcome,
        }
    }

    fn written(revision: i64, previous: Option<(u64, i64)>) -> Outcome {
        Outcome::Written {
            revision,
            previous: vec![previous.map(|(value, at)| entry(value, at))],
        }
    }

    fn entry(value: u64, revision: i64) -> crate::history::Entry {
        crate::history::Entry {
            value,
            created: 2,
            modified: revision,
            version: revision - 1,
            lease: 0,
        }
    }

    fn read(times: (u64, u64), found: (u64, i64)) -> Operation {
        let entries = Entries::from([(0, entry(found.0, found.1))]);
        Operation {
            called: times.0,
            returned: times.1,
            epoch: 0,
            call: Call::Read { key: Some(0) },
            outcome: Outcome::Read {
                revision: found.1,
                entries,
            },
        }
    }

    #[test]
    fn overlapping_operations_may_have_happened_in_any_order() {
        let history = [
            put((0, 10), 7, written(3, Some((8, 2)))),
            put((1, 9), 8, written(2, None)),
            read((2, 5), (8, 2)),
        ];
        let order = order(&history, Leases::Strict).expect("there is an order");
        let order: Vec<_> = order.into_iter().map(|(operation, _)| operation).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn a_read_of_what_was_replaced_before_it_began_is_a_violation() {
        let history = [
            put((0, 1), 7, written(2, None)),
            put((2, 3), 8, written(3, Some((7, 2)))),
            read((4, 5), (7, 2)),
        ];
        let failure = order(&history, Leases::Strict);
        assert!(matches!(failure, Err(Failure::Violation { unfit: 2, .. })));
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened_or_not() {
        let unknown = put((0, 0), 7, Outcome::Unknown);
        let history = [unknown.clone(), read((2, 3), (7, 2))];
        assert!(order(&history, Leases::Strict).is_ok());
        let history = [unknown, put((2, 3), 8, written(2, None))];
        assert!(order(&history, Leases::Strict).is_ok());
    }

    fn crash(times: (u64, u64), revision: i64) -> Operation {
        Operation {
            called: times.0,
            returned: times.1,
            epoch: 0,
            call: Call::Crash,
            outcome: Outcome::Restarted { revision },
        }
    }

    #[test]
    fn a_crash_loses_nothing_that_was_acknowledged() {
        let history = [put((0, 1), 7, written(2, None)), crash((2, 3), 1)];
        for leases in [Leases::Strict, Leases::Relaxed] {
            assert!(matches!(
                order(&history, leases),
                Err(Failure::Violation { unfit: 1, .. })
            ));
        }
    }

    #[test]
    fn a_crash_may_lose_relaxed_writes_but_not_their_revisions() {
        let mut relaxed = put((0, 1), 7, written(2, None));
        relaxed.call = Call::Write {
            condition: None,
            writes: vec![Write::Put {
                key: crate::history::KEYS,
                value: 7,
                lease: 0,
            }],
        };
        let mut nothing = read((4, 5), (0, 10));
        nothing.epoch = 1;
        nothing.call = Call::Read { key: None };
        nothing.outcome = Outcome::Read {
            revision: 10,
            entries: Entries::new(),
        };
        let history = [relaxed.clone(), crash((2, 3), 10), nothing.clone()];
        assert!(order(&history, Leases::Relaxed).is_ok());
        assert!(order(&history, Leases::Strict).is_err());
        let history = [relaxed, crash((2, 3), 1), nothing];
        assert!(order(&history, Leases::Relaxed).is_err());
    }
}
