//! etcd's promises as a trait, the shared tree and ring, and the in-memory model.
//!
//! A store holds keys and values as bytes under one revision for the whole store. It has never heard of objects.
//!
//! - [`Kv`] and the types around it: what every store promises.
//! - [`MemoryKv`]: the whole of it in memory.
//! - [`State`], [`Replica`] and [`LeaseTimes`]: what a store is built of. One writer runs transactions on its own `State`, makes them durable, and
//!   publishes them to the `Replica`, from which everybody reads and watches.

mod hash;
mod hub;
mod interval;
mod item;
mod leases;
mod memory;
mod pump;
mod replica;
mod ring;
mod state;
#[cfg(test)]
mod tests;
mod transact;
mod tree;
mod types;

pub use hub::WATCH_QUEUE_MAX;
pub use item::{CHANGES_PER_REVISION_MAX, VersionId};
pub use leases::{EXPIRED_LEASES_MAX, LEASE_TTL_MAX, LEASE_TTL_MIN, LeaseTimes, plan_grant};
pub use memory::{MemoryKv, MemoryOptions};
pub use replica::{Dead, ReadHistory, Replica};
pub use ring::{RING_BYTES_MAX, RING_EVENTS_MAX};
pub use state::{Change, FIRST_REVISION, LeaseGrant, Loaded, Loader, State};
pub use transact::{Limits, OPERATIONS_MAX, REQUEST_BYTES_MAX, Transacted};
pub use types::*;
