//! The cluster DNS, in the process: the names of Services, endpoints and pods, and everything else by forwarding.
//!
//! [`Records`] is a plain value that objects are put into; questions about the cluster are answered from it by pure
//! functions. [`follow`] feeds it from the API; [`Dns`] is the sockets around it.

mod error;
mod follow;
mod forwarder;
mod message;
mod records;
mod server;
mod zone;

pub use error::Error;
pub use follow::follow;
pub use records::Records;
pub use server::{Config, Dns};
pub use zone::Zone;
