//! List and watch into caches that a whole process shares.
//!
//! A `Factory` gives one `Cache` per selection of objects; a task of its own (the reflector) keeps it current for as long as somebody holds
//! it. A cache holds stored objects, bytes and a small index, and never decodes one to keep it: readers decode on demand.

mod cache;
mod factory;
mod index;
mod reflector;
mod subscription;

pub use cache::{Cache, Change};
pub use factory::{Factory, everything};
pub use index::{CONTROLLER_UID, Index, NODE_NAME, OWNER_UID};
pub use subscription::Subscription;
