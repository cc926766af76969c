//! A client is a transport plus the field manager its writes are booked on; every answer that is a failure becomes an error.

use std::sync::Arc;

use apimachinery::{ApiError, GroupVersionResource, Reason};
use bytes::Bytes;
use k8s_openapi::Resource;
use serde::de::DeserializeOwned;

use crate::path::with_query;
use crate::{
    Api, ClientError, DynamicApi, ListRequest, Method, ObjectList, Request, Response, Transport,
    WatchRequest, WatchStream,
};

pub const JSON: &str = "application/json";

/// Calls the API as somebody. Cloning it copies two pointers.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<dyn Transport>,
    field_manager: Arc<str>,
}

/// The collection in which objects of type `K` live.
pub fn resource_of<K: Resource>() -> GroupVersionResource {
    GroupVersionResource::new(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
}

impl Client {
    /// Writes name no field manager: the server takes it from the user agent.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            field_manager: Arc::from(""),
        }
    }

    /// A client whose writes carry `fieldManager=name` (at most 128 printable characters).
    #[must_use]
    pub fn with_field_manager(&self, name: &str) -> Self {
        Self {
            transport: Arc::clone(&self.transport),
            field_manager: Arc::from(name),
        }
    }

    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// Objects of type `K` in one namespace; in all of them, or cluster-wide ones, if `namespace` is empty.
    pub fn api<K: Resource>(&self, namespace: &str) -> Api<K> {
        Api::new(self.dynamic(resource_of::<K>(), namespace))
    }

    /// Objects of a resource known only at run time; `namespace` as for `api`.
    pub fn dynamic(&self, resource: GroupVersionResource, namespace: &str) -> DynamicApi {
        DynamicApi::new(self.clone(), resource, namespace)
    }

    pub async fn list(&self, request: ListRequest) -> Result<ObjectList, ClientError> {
        self.transport.list(request).await
    }

    pub async fn watch(&self, request: WatchRequest) -> Result<WatchStream, ClientError> {
        self.transport.watch(request).await
    }

    /// `GET path` with any answer that is not JSON or not an object, such as `/version` or `/healthz`.
    pub async fn get_raw(&self, path: &str) -> Result<Bytes, ClientError> {
        self.send(Method::Get, path.to_owned(), "", Bytes::new())
            .await
    }

    /// `GET path`, decoded.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        decode(&self.get_raw(path).await?)
    }

    /// One call; the body of the answer, or the failure that the server told.
    pub async fn send(
        &self,
        method: Method,
        path: String,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let answer = self
            .transport
            .call(Request {
                method,
                path,
                content_type,
                body,
            })
            .await?;
        for warning in &answer.warnings {
            tracing::debug!(%warning, "the API server warns");
        }
        if answer.code < 400 {
            Ok(answer.body)
        } else {
            Err(failure(answer.code, &answer.body).into())
        }
    }

    /// `path` as a write of this client asks for it.
    pub(crate) fn write_path(&self, path: String) -> String {
        with_query(path, "fieldManager", &self.field_manager)
    }
}

/// The answer of a transport, decoded; an answer that is a failure is the error. An empty answer is `null`.
pub fn answer<T: DeserializeOwned>(answer: &Response) -> Result<T, ClientError> {
    if answer.code >= 400 {
        return Err(failure(answer.code, &answer.body).into());
    }
    decode(if answer.body.is_empty() {
        b"null"
    } else {
        &answer.body
    })
}

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    apimachinery::from_json(body).map_err(|error| ClientError::Malformed(error.to_string()))
}

/// The error in an answer: its Status, or what can be told from the code and the text alone.
pub(crate) fn failure(code: u16, body: &[u8]) -> ApiError {
    let status = serde_json::from_slice(body).ok();
    if let Some(mut error) = status.as_ref().and_then(ApiError::from_status) {
        error.code = code;
        error.continue_token = status
            .as_ref()
            .and_then(|status| status.pointer("/metadata/continue"))
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned);
        return error;
    }
    let reason = match code {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        409 => Reason::Conflict,
        410 => Reason::Gone,
        422 => Reason::Invalid,
        429 => Reason::TooManyRequests,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        500..=599 => Reason::InternalError,
        _ => Reason::Unknown,
    };
    ApiError::new(
        code,
        reason,
        String::from_utf8_lossy(body).trim().to_owned(),
    )
}
