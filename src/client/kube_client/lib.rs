//! Calls to the API over a `Transport`: in process, or TLS to a server elsewhere.
//!
//! `Client` is the face for callers: `client.api::<Pod>("namespace").get("name")`, or `client.dynamic(resource, "namespace")` for kinds
//! known only at run time. `HttpTransport` reaches a server over TLS; `fake` holds an API in memory for tests.

mod api;
mod client;
mod dial;
mod dynamic;
pub mod fake;
mod http;
mod kubeconfig;
mod options;
mod path;
mod transport;

pub use api::{Api, Kind, typed};
pub use client::{Client, JSON, answer, resource_of};
pub use dial::Dialer;
pub use dynamic::DynamicApi;
pub use http::{
    Anybody, Authorities, BodyStream, ClientCertificate, ClockTime, Credentials, HttpConfig,
    HttpTransport, Route, Trust, Upgraded,
};
pub use kubeconfig::{Kubeconfig, KubeconfigError};
pub use options::{DeleteOptions, Patch, Propagation};
pub use path::{collection_path, group_version_path, object_path, with_query};
pub use transport::{
    ClientError, ListRequest, Method, ObjectList, Request, Response, Transport, WatchEvent,
    WatchRequest, WatchStream,
};
