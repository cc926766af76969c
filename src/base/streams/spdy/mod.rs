//! SPDY/3.1, as far as Kubernetes speaks it: exec and attach of old clients, and port-forward of all.
//!
//! Go's implementation, the only peer there is, neither keeps to windows nor updates them. So data is sent as the connection takes it, what
//! arrives is held in a bounded buffer per stream, and a full buffer holds up the connection. Window updates are sent for peers that wait for them.

mod connection;
mod dictionary;
mod frame;
mod headers;

pub use connection::{Incoming, SpdyConnection, SpdyStream};
pub use headers::Headers;
