//! The narrow door to an API server. Every caller, also in the server's own process, goes through it as somebody.

use std::fmt;

use apimachinery::{ApiError, GroupVersionResource, StoredObject};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// One call with a whole body and a whole answer.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Path and query, as in the URL: `/api/v1/namespaces/a/pods?dryRun=All`.
    pub path: String,
    /// Empty without a body.
    pub content_type: &'static str,
    pub body: Bytes,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub code: u16,
    /// JSON, or text for the few endpoints that answer text.
    pub body: Bytes,
    /// The texts of `Warning` headers.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListRequest {
    pub resource: GroupVersionResource,
    /// `None`: all namespaces, or a cluster-wide resource.
    pub namespace: Option<String>,
    /// Empty: everything.
    pub label_selector: String,
    /// Empty: everything.
    pub field_selector: String,
}

/// Every object of a list, at one revision.
#[derive(Clone, Debug)]
pub struct ObjectList {
    pub items: Vec<StoredObject>,
    pub revision: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    pub list: ListRequest,
    /// Events after this revision; bookmarks come as well.
    pub after_revision: i64,
}

#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(StoredObject),
    Modified(StoredObject),
    /// The last state, with the revision of the deletion.
    Deleted(StoredObject),
    /// Everything up to this revision was delivered.
    Bookmark(i64),
    /// The watch ended with an error; nothing follows. Expired means: list again.
    Error(ApiError),
}

/// A running watch; dropping it ends it. The stream ends when the server closes it.
pub type WatchStream = mpsc::Receiver<WatchEvent>;

#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with a failure.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No answer came; the call may or may not have been carried out.
    #[error("no answer from the API server: {0}")]
    Unreachable(String),
    #[error("the API server's answer cannot be read: {0}")]
    Malformed(String),
}

impl ClientError {
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.api().is_some_and(ApiError::is_not_found)
    }

    pub fn is_conflict(&self) -> bool {
        self.api().is_some_and(ApiError::is_conflict)
    }

    pub fn is_already_exists(&self) -> bool {
        self.api().is_some_and(ApiError::is_already_exists)
    }
}

/// How calls reach an API server.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// The answer, whatever its code.
    async fn call(&self, request: Request) -> Result<Response, ClientError>;

    /// `call` with the forms of the answer the caller would like, as an `Accept` header. Where no other form than plain
    /// objects exists, the answer is that.
    async fn call_accepting(
        &self,
        request: Request,
        _accept: &'static str,
    ) -> Result<Response, ClientError> {
        self.call(request).await
    }

    /// A consistent list. In process the items share the store's bytes.
    async fn list(&self, request: ListRequest) -> Result<ObjectList, ClientError>;

    /// A watch. In process the events share the store's bytes.
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, ClientError>;
}
