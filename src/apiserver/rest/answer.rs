//! What a verb answers, before anybody decides how it is written.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, StoredObject};
use parking_lot::Mutex;
use serde_json::{Value, json};
use storage::{List, Watch};

use crate::catalog::Served;
use crate::filters::Response;

/// An answer that is no error.
#[derive(Debug)]
pub(crate) enum Answer {
    Object {
        code: u16,
        served: Arc<Served>,
        object: StoredObject,
    },
    /// An object that is not in the store: a dry run's, a review, a `Status`.
    Value {
        code: u16,
        served: Option<Arc<Served>>,
        value: Value,
    },
    List {
        served: Arc<Served>,
        list: List,
    },
    Watch {
        served: Arc<Served>,
        watch: Box<Watch>,
        timeout: Duration,
    },
    /// Written already: texts, streams, proxied answers.
    Written(Response),
}

impl Answer {
    pub(crate) fn value(code: u16, value: Value) -> Self {
        Self::Value {
            code,
            served: None,
            value,
        }
    }
}

/// The `Status` of something done.
pub(crate) fn success(details: Value) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// A method that the path does not have.
pub(crate) fn method_not_allowed() -> ApiError {
    ApiError::new(
        405,
        apimachinery::Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
    .with_details(apimachinery::StatusDetails::default())
}

/// The texts of `Warning` headers, gathered while a request is served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

/// Warnings of one answer, at most; and their bytes.
const WARNINGS_MAX: usize = 100;
const WARNING_BYTES_MAX: usize = 4096;

impl Warnings {
    pub(crate) fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.0.lock();
        let bytes: usize = warnings.iter().map(String::len).sum();
        if warnings.len() < WARNINGS_MAX
            && bytes + text.len() <= WARNING_BYTES_MAX
            && !warnings.contains(&text)
        {
            warnings.push(text);
        }
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}
