//! The server that most tests share, and a namespace of it for each of them.

use std::sync::OnceLock;

use crate::support::{Kubectl, Options, Server, eventually};

static SHARED: OnceLock<Server> = OnceLock::new();

/// The shared server; the first caller starts it.
pub(crate) fn shared() -> &'static Server {
    SHARED.get_or_init(|| Server::start("shared", &Options::default()))
}

/// Ends the shared server, if a test wanted it.
pub(crate) fn tear_down() {
    if let Some(server) = SHARED.get() {
        server.tear_down();
    }
}

/// A namespace of the shared server; it goes when the test ends.
pub(crate) struct Space {
    pub(crate) name: String,
    pub(crate) kubectl: Kubectl,
}

impl Space {
    pub(crate) fn new(name: &str) -> Self {
        Self::on(shared(), name)
    }

    pub(crate) fn on(server: &Server, name: &str) -> Self {
        Self::through(server.kubectl(), name)
    }

    /// With another kubectl.
    pub(crate) fn through(kubectl: Kubectl, name: &str) -> Self {
        kubectl.ok(&["create", "namespace", name]);
        let kubectl = kubectl.in_namespace(name);
        // Without it no pod is admitted.
        eventually("the default service account", || {
            kubectl.find("serviceaccount", "default")
        });
        Self {
            name: name.to_owned(),
            kubectl,
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // A failed test has told its story already.
        drop(
            self.kubectl
                .run(&["delete", "namespace", &self.name, "--wait=false"]),
        );
    }
}
