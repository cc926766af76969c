//! What an API server is made of.

use std::sync::Arc;

use admission::Plugin;
use auth::{Authenticator, Authorizer};
use env::{Clock, Rng};
use kv::Kv;

/// Everything an API server needs from outside.
#[derive(Clone, Debug)]
pub struct Config {
    pub kv: Arc<dyn Kv>,
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    /// In the order they run.
    pub admission: Vec<Arc<dyn Plugin>>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// Host and port that clients reach the server at: `10.0.0.1:6443`.
    pub advertised_address: String,
}
