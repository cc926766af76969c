//! The door for components in this process: the same filters, and no copies of what the store holds.

use std::sync::Arc;

use apimachinery::{ApiError, GroupVersionResource};
use async_trait::async_trait;
use auth::User;
use http_body_util::BodyExt as _;
use kube_client::{
    ClientError, ListRequest, Method, ObjectList, Request, Response, Transport, WatchEvent,
    WatchRequest, WatchStream,
};
use storage::WatchEvent as StoreEvent;
use tokio::sync::mpsc;

use crate::answer::{Answer, Warnings};
use crate::body::RequestBody;
use crate::filters::{self, Caller, Incoming};
use crate::query::encode;
use crate::request_info::RequestInfo;
use crate::state::State;

/// Events that wait for a slow reader before the watch itself waits.
const WATCH_QUEUE_MAX: usize = 64;
/// The largest answer of one call.
const RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Calls as one fixed identity.
#[derive(Debug)]
pub(crate) struct InProcess {
    pub(crate) state: Arc<State>,
    pub(crate) user: Arc<User>,
}

impl InProcess {
    fn incoming(&self, request: Request) -> Incoming {
        let method = match request.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
            Method::Delete => http::Method::DELETE,
        };
        let mut headers = http::HeaderMap::new();
        headers.insert(
            http::header::ACCEPT,
            http::HeaderValue::from_static("application/json"),
        );
        if !request.content_type.is_empty() {
            headers.insert(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static(request.content_type),
            );
        }
        headers.insert(
            http::header::USER_AGENT,
            http::HeaderValue::from_static(agent(&self.user)),
        );
        Incoming {
            info: RequestInfo::parse(&method, &request.path),
            raw_query: request
                .path
                .split_once('?')
                .map(|(_, query)| query.to_owned())
                .unwrap_or_default(),
            headers,
            extensions: http::Extensions::default(),
            body: RequestBody::InProcess(request.body),
            warnings: Warnings::default(),
        }
    }

    fn caller(&self) -> Caller {
        Caller::InProcess(self.user.clone())
    }

    async fn read(&self, path: String) -> Result<Answer, ClientError> {
        let request = Request {
            method: Method::Get,
            path,
            content_type: "",
            body: bytes::Bytes::new(),
        };
        let incoming = self.incoming(request);
        Ok(filters::answer(&self.state, incoming, self.caller()).await?)
    }

    /// Custom kinds in a version that is not the stored one are converted; everything else is handed out as it is.
    fn convert(
        served: &crate::catalog::Served,
        object: apimachinery::StoredObject,
    ) -> Result<apimachinery::StoredObject, ApiError> {
        let bytes = served.bytes(&object)?;
        Ok(apimachinery::StoredObject { bytes, ..object })
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn call(&self, request: Request) -> Result<Response, ClientError> {
        let incoming = self.incoming(request);
        let warnings = incoming.warnings.clone();
        let response = filters::respond_to(&self.state, incoming, self.caller()).await;
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, RESPONSE_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| ClientError::Malformed(error.to_string()))?;
        Ok(Response {
            code: head.status.as_u16(),
            body: body.to_bytes(),
            warnings: warnings.texts(),
        })
    }

    async fn list(&self, request: ListRequest) -> Result<ObjectList, ClientError> {
        match self.read(path_of(&request, "")).await? {
            Answer::List { served, list } => {
                let items = list
                    .items
                    .into_iter()
                    .map(|item| Self::convert(&served, item));
                let items = items.collect::<Result<Vec<_>, _>>()?;
                Ok(ObjectList {
                    items,
                    revision: list.revision,
                })
            }
            _ => Err(ClientError::Malformed(format!(
                "{:?} cannot be listed",
                request.resource
            ))),
        }
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, ClientError> {
        let more = format!(
            "&watch=1&allowWatchBookmarks=true&resourceVersion={}",
            request.after_revision
        );
        match self.read(path_of(&request.list, &more)).await? {
            Answer::Watch { served, watch, .. } => {
                let (sender, receiver) = mpsc::channel(WATCH_QUEUE_MAX);
                env::spawn(pump(served, watch, sender));
                Ok(receiver)
            }
            _ => Err(ClientError::Malformed(format!(
                "{:?} cannot be watched",
                request.list.resource
            ))),
        }
    }
}

async fn pump(
    served: Arc<crate::catalog::Served>,
    mut watch: Box<storage::Watch>,
    sender: mpsc::Sender<WatchEvent>,
) {
    loop {
        let event = tokio::select! {
            biased;
            () = sender.closed() => return,
            event = watch.next() => event,
        };
        let Some(event) = event else { return };
        let event = match event {
            StoreEvent::Added(object) => InProcess::convert(&served, object).map(WatchEvent::Added),
            StoreEvent::Modified(object) => {
                InProcess::convert(&served, object).map(WatchEvent::Modified)
            }
            StoreEvent::Deleted(object) => {
                InProcess::convert(&served, object).map(WatchEvent::Deleted)
            }
            StoreEvent::Bookmark { revision, .. } => Ok(WatchEvent::Bookmark(revision)),
            StoreEvent::Error(error) => Err(error),
        };
        let event = event.unwrap_or_else(WatchEvent::Error);
        let is_last = matches!(event, WatchEvent::Error(_));
        if sender.send(event).await.is_err() || is_last {
            return;
        }
    }
}

/// The program that upstream runs such a component in: it owns the fields that the component writes.
fn agent(user: &User) -> &'static str {
    match user.name.as_str() {
        "system:apiserver" => "kube-apiserver",
        "system:kube-scheduler" => "kube-scheduler",
        name if name.starts_with("system:node:") => "kubelet",
        name if name.starts_with("system:serviceaccount:kube-system:") => "kube-controller-manager",
        "system:kube-controller-manager" => "kube-controller-manager",
        _ => "combo",
    }
}

fn path_of(request: &ListRequest, more: &str) -> String {
    let GroupVersionResource {
        group,
        version,
        resource,
    } = &request.resource;
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let place = match &request.namespace {
        Some(namespace) => format!("/namespaces/{namespace}/{resource}"),
        None => format!("/{resource}"),
    };
    let mut query = String::new();
    for (name, selector) in [
        ("labelSelector", &request.label_selector),
        ("fieldSelector", &request.field_selector),
    ] {
        if !selector.is_empty() {
            query.extend(["&", name, "=", &encode(selector, b"/,")]);
        }
    }
    format!("{root}{place}?{}{more}", query.trim_start_matches('&'))
}
