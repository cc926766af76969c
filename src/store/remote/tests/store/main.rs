//! The store against etcd's API: our own in front of a store in memory, and a real etcd where one is at hand.

// What suites of other stores are made of: the same steps must have the same answers.
#[path = "../../../sqlite/tests/store/steps.rs"]
mod steps;

mod failover;
mod front;
mod model;
mod support;
mod watch;
