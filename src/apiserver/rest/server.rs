//! The server as the rest of the program sees it.

use std::sync::Arc;

use apimachinery::ApiError;
use auth::User;
use env::Shutdown;
use kube_client::Transport;
use registry::ResourceHandle;
use tokio::net::TcpListener;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::metrics::MetricsSource;
use crate::state::State;
use crate::transport::InProcess;
use crate::{bootstrap, connection};

/// An API server over one store. Cloning it gives another handle on the same one.
#[derive(Clone, Debug)]
pub struct ApiServer {
    state: Arc<State>,
}

impl ApiServer {
    pub fn new(config: Config) -> Self {
        Self {
            state: State::new(config),
        }
    }

    /// Serves HTTPS until the end is asked for. Client certificates are optional; `tls` says which are believed.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: Shutdown,
    ) {
        connection::serve(self.state.clone(), listener, tls, shutdown).await;
    }

    /// Makes what every cluster has: system namespaces, roles, the Service `kubernetes` … Until then the server is not ready.
    pub async fn bootstrap(&self) -> Result<(), ApiError> {
        bootstrap::run(&self.state).await
    }

    /// Writes the endpoints of the Service `kubernetes` as [`Config::advertised`] is now.
    pub async fn advertise(&self) -> Result<(), ApiError> {
        bootstrap::advertise(&self.state).await
    }

    /// Calls from this process, as `user`.
    pub fn transport(&self, user: User) -> Arc<dyn Transport> {
        Arc::new(InProcess {
            state: self.state.clone(),
            user: Arc::new(user),
        })
    }

    /// What else `/metrics` tells.
    pub fn add_metrics(&self, source: Arc<dyn MetricsSource>) {
        self.state.metrics.sources.lock().push(source);
    }

    /// Replaces the custom kinds that are served besides the built-in ones.
    pub fn set_custom_resources(&self, resources: Vec<ResourceHandle>) {
        self.state.catalog.store(Arc::new(Catalog::new(resources)));
    }
}
