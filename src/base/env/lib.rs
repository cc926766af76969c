//! Time, randomness, tasks and shutdown: everything that is not a pure function of its input comes in through here,
//! so that a whole cluster can run on one thread from one seed.
//!
//! This crate and no other calls the clock, the system's randomness and tokio's timers and spawn.
#![allow(clippy::disallowed_methods)]

mod clock;
mod random;
mod shutdown;
mod tasks;

pub use clock::{Basis, Clock, FlooredClock, ManualClock, SystemClock, Timestamp};
pub use random::{Rng, SeededRng, SystemRng};
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use tasks::{JoinHandle, TimedOut, sleep, spawn, spawn_blocking, timeout};
