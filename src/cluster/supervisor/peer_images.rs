//! `--embedded-registry`: the other nodes of the cluster as places to pull images from, asked in this node's name.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use env::Clock;
use http_body_util::BodyExt as _;
use images::{Peer, Peers, Pieces};
use informer::{Cache, Factory};
use k8s_openapi::api::core::v1::Node;
use kube_client::{
    BodyStream, ClientCertificate, Credentials, Dialer, HttpConfig, HttpTransport, Method, Request,
    Trust,
};
use tokio::sync::mpsc;

const USER_AGENT: &str = concat!("combo-images/", env!("CARGO_PKG_VERSION"));
const KUBELET_PORT: u16 = 10_250;
/// Pieces of an answer read ahead of the disk.
const PIECES_MAX: usize = 8;

/// How a node asks others, and knows them.
#[derive(Clone)]
pub(crate) struct PeerCredentials {
    pub(crate) certificate: Arc<ClientCertificate>,
    /// Who signs what kubelets show.
    pub(crate) trust: Trust,
}

/// The nodes of the cluster but this one.
pub(crate) struct NodePeers {
    nodes: Arc<Cache>,
    own_name: String,
    credentials: PeerCredentials,
    clock: Arc<dyn Clock>,
}

impl NodePeers {
    pub(crate) fn new(
        factory: &Factory,
        own_name: &str,
        credentials: PeerCredentials,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            nodes: factory.all::<Node>(),
            own_name: own_name.to_owned(),
            credentials,
            clock,
        }
    }

    fn peer(&self, at: &Place) -> Option<Arc<dyn Peer>> {
        let config = HttpConfig {
            server: format!("https://{}", at.address),
            trust: self.credentials.trust.clone(),
            // A kubelet's certificate is made out to its node, whatever addresses the node has.
            server_name: Some(at.node.clone()),
            credentials: Credentials::Certificate(self.credentials.certificate.clone()),
            user_agent: USER_AGENT.to_owned(),
            route: Arc::new(Dialer::default()),
            clock: self.clock.clone(),
        };
        match HttpTransport::new(&config) {
            Ok(http) => Some(Arc::new(NodePeer {
                node: at.node.clone(),
                http,
            })),
            Err(error) => {
                tracing::warn!(node = at.node, %error, "a node cannot be asked for images");
                None
            }
        }
    }
}

impl fmt::Debug for NodePeers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NodePeers")
    }
}

impl Peers for NodePeers {
    fn all(&self) -> Vec<Arc<dyn Peer>> {
        let nodes = self.nodes.list();
        let places = nodes
            .iter()
            .filter_map(|node| node.decode::<Node>().ok())
            .filter_map(|node| place_of(&node));
        let places = after(&self.own_name, places.collect());
        places.iter().filter_map(|at| self.peer(at)).collect()
    }
}

/// A node whose kubelet may answer.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    node: String,
    /// Host and port.
    address: String,
}

fn place_of(node: &Node) -> Option<Place> {
    let status = node.status.as_ref()?;
    let is_ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !is_ready {
        return None;
    }
    let addresses = status.addresses.iter().flatten();
    let host = addresses
        .filter(|address| address.type_ == "InternalIP")
        .map(|address| address.address.as_str())
        .next()?;
    let told = status.daemon_endpoints.as_ref();
    let told = told.and_then(|endpoints| endpoints.kubelet_endpoint.as_ref());
    let port = told.map_or(KUBELET_PORT.into(), |endpoint| endpoint.port);
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    Some(Place {
        node: node.metadata.name.clone()?,
        address,
    })
}

/// All but the node itself, beginning with the one after it, so that not everybody asks the same node first.
fn after(own: &str, mut places: Vec<Place>) -> Vec<Place> {
    places.retain(|place| place.node != own);
    places.sort();
    let first = places.partition_point(|place| place.node.as_str() < own);
    places.rotate_left(first);
    places
}

/// Another node.
#[derive(Debug)]
struct NodePeer {
    node: String,
    http: HttpTransport,
}

#[async_trait]
impl Peer for NodePeer {
    fn name(&self) -> &str {
        &self.node
    }

    async fn get(&self, path: &str) -> io::Result<(u16, Pieces)> {
        let request = Request {
            method: Method::Get,
            path: path.to_owned(),
            content_type: "",
            body: Bytes::new(),
        };
        let (code, body) = self.http.open(request).await.map_err(io::Error::other)?;
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        env::spawn(hand_on(body, sender));
        Ok((code, pieces))
    }
}

async fn hand_on(mut body: BodyStream, pieces: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => {
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                Ok(piece)
            }
            Err(error) => Err(io::Error::other(error)),
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nodes_that_are_ready_are_asked_beginning_with_the_next() {
        let node = |name: &str, address: &str, ready: &str| {
            let status = json!({
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10260}},
            });
            let node = json!({"metadata": {"name": name}, "status": status});
            serde_json::from_value::<Node>(node).unwrap()
        };
        let nodes = [
            node("c", "fd00::3", "True"),
            node("a", "10.0.0.1", "True"),
            node("d", "10.0.0.4", "Unknown"),
            node("b", "10.0.0.2", "True"),
        ];
        let places = after("b", nodes.iter().filter_map(place_of).collect());
        let addresses: Vec<&str> = places.iter().map(|place| place.address.as_str()).collect();
        assert_eq!(addresses, ["[fd00::3]:10260", "10.0.0.1:10260"]);
    }
}
