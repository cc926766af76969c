//! Starts and stops the components of a server in order; decides nothing itself.

mod control_plane;
mod names;
mod server;
mod tls;

pub use server::{Server, StartError};
