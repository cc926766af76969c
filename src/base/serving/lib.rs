//! Servers' connections: accepted up to a number, with TLS where it is asked for, and HTTP over them.
//!
//! Streams, services and bodies are boxed on the way into HTTP, so that its code is in the binary once and not once for each server.

mod accept;
mod http;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

pub use accept::{Limits, Listener, accept_each};
pub use http::{Answer, Body, BodyError, Http, Http2, Service, serve_http, service};
pub use tls::handshake;
