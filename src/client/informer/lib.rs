//! List and watch into caches that a whole process shares.
//!
//! A `Factory` gives one `Cache` per selection of objects; a task of its own (the reflector) keeps it current for as long as somebody holds
//! it, and a `Memory` lets it begin with what it knew when no server answers. A cache holds stored objects, bytes and a small index, and never decodes one to keep it: readers decode on demand.

mod cache;
mod factory;
mod index;
mod memory;
mod reach;
mod reflector;
mod subscription;

pub use cache::{Cache, Change};
pub use factory::{Factory, everything};
pub use index::{CONTROLLER_UID, Index, NODE_NAME, OWNER_UID};
pub use memory::{Keep, Kept, Memory, Selections, always};
pub use reach::is_silence;
pub use subscription::Subscription;
