//! Calls to the API over a `Transport`: in process, or TLS to a server elsewhere.

mod transport;

pub use transport::{
    ClientError, ListRequest, Method, ObjectList, Request, Response, Transport, WatchEvent, WatchRequest, WatchStream,
};
