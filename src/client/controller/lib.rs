//! Observe, plan, act: how every controller runs.
//!
//! A `Controller` says what wakes it, reads caches into a view of one key, and plans from the view alone. The `Manager` starts it: changes
//! become keys, keys are turned one at a time each, plans are carried out, failures are tried again later, and the next turn of a key waits
//! until the caches have seen what the last one wrote.

mod action;
mod election;
mod events;
mod executor;
mod gate;
mod manager;
mod queue;
mod runner;
mod turn;
mod wakes;

pub use action::{Action, Announcement, Plan};
pub use election::Election;
pub use events::{Event, EventRecorder, EventType, regarding};
pub use executor::{Executor, Record};
pub use gate::Gate;
pub use manager::Manager;
pub use queue::Queue;
pub use turn::{Controller, Failure, Outcomes, Past, Verb};
pub use wakes::Wakes;
