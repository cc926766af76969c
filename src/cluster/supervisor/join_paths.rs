//! What the server's port offers beside the API: joining, and the connections that agents open.

use std::sync::{Arc, OnceLock};

use apimachinery::{ApiError, GroupResource};
use async_trait::async_trait;
use bytes::Bytes;
use env::{Clock, Shutdown};
use http::Method;
use joining::{
    AUTHORITIES_PATH, CONNECT_PATH, JOIN_PATH, JoinService, ServerTime, TIME_PATH, TUNNEL_PROTOCOL,
};
use rest::{SideAnswer, SidePaths, SideRequest};
use tunnel::Tunnels;

const NODE_USER_PREFIX: &str = "system:node:";
const PING_PATH: &str = "/ping";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// Serves [`AUTHORITIES_PATH`] and the others.
#[derive(Debug)]
pub(crate) struct JoinPaths {
    authorities: String,
    /// It works through the API, which serves these paths: so it comes later.
    service: OnceLock<JoinService>,
    pub(crate) tunnels: Tunnels,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
}

impl JoinPaths {
    /// `authorities` sign servers, in PEM.
    pub(crate) fn new(authorities: String, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            authorities,
            service: OnceLock::new(),
            tunnels: Tunnels::default(),
            clock,
            shutdown,
        })
    }

    /// From here on nodes can join.
    pub(crate) fn open(&self, service: JoinService) {
        // There is one start of a server, and it calls this once.
        let _first = self.service.set(service);
    }

    async fn join(&self, request: &SideRequest) -> Result<SideAnswer, ApiError> {
        let service = self.service.get().ok_or_else(|| {
            ApiError::service_unavailable("the server is starting; nodes can join in a moment")
        })?;
        let joined = service.join(
            request.authorization.as_deref(),
            request.peer.ip().to_canonical(),
            &request.body,
        );
        match joined.await {
            Ok(answer) => json(&answer),
            Err(error) => {
                tracing::warn!(peer = %request.peer, %error, "a machine was not let in");
                Err(error.to_api_error())
            }
        }
    }

    /// Keeps the connection of a node, known by its certificate.
    fn connect(&self, request: &SideRequest) -> Result<SideAnswer, ApiError> {
        let user = request.user.as_ref().ok_or_else(ApiError::unauthorized)?;
        let is_node = user.is_in("system:nodes");
        let node = user.name.strip_prefix(NODE_USER_PREFIX).filter(|_| is_node);
        let Some(node) = node else {
            let nodes = GroupResource::new("", "nodes");
            let why = "only a node may open a tunnel";
            return Err(ApiError::forbidden(&nodes, &user.name, why));
        };
        if request.upgrade.as_deref() != Some(TUNNEL_PROTOCOL) {
            let why = format!("this path wants `Upgrade: {TUNNEL_PROTOCOL}`");
            return Err(ApiError::bad_request(why));
        }
        let (tunnels, shutdown, node) =
            (self.tunnels.clone(), self.shutdown.clone(), node.to_owned());
        Ok(SideAnswer::Switch {
            protocol: TUNNEL_PROTOCOL,
            then: Box::new(move |connection| {
                env::spawn(async move { tunnels.hold(&node, connection, &shutdown).await });
            }),
        })
    }
}

#[async_trait]
impl SidePaths for JoinPaths {
    fn serves(&self, path: &str) -> bool {
        [
            AUTHORITIES_PATH,
            JOIN_PATH,
            CONNECT_PATH,
            TIME_PATH,
            PING_PATH,
        ]
        .contains(&path)
    }

    async fn answer(&self, request: SideRequest) -> Result<SideAnswer, ApiError> {
        match (&request.method, request.path.as_str()) {
            (&Method::GET, AUTHORITIES_PATH) => Ok(text(&self.authorities)),
            (&Method::GET, PING_PATH) => Ok(text("pong")),
            (&Method::GET, TIME_PATH) => json(&ServerTime {
                unix_seconds: self.clock.now().unix_seconds(),
            }),
            (&Method::POST, JOIN_PATH) => self.join(&request).await,
            (&Method::GET, CONNECT_PATH) => self.connect(&request),
            (method, path) => Err(ApiError::bad_request(format!(
                "{path} is not served for {method}"
            ))),
        }
    }
}

fn text(text: &str) -> SideAnswer {
    SideAnswer::Body {
        content_type: TEXT,
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn json(value: &impl serde::Serialize) -> Result<SideAnswer, ApiError> {
    let body = serde_json::to_vec(value).map_err(ApiError::internal)?;
    Ok(SideAnswer::Body {
        content_type: JSON,
        body: Bytes::from(body),
    })
}
