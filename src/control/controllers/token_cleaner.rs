//! Deletes bootstrap tokens when their time is over: nobody could authenticate with them any more, but they could be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::ObjectKey;
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube_client::{DeleteOptions, ListRequest, resource_of};
use serde::Deserialize;

const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const EXPIRATION: &str = "expiration";

pub(crate) struct TokenCleaner {
    tokens: Arc<Cache>,
}

#[derive(Deserialize)]
struct RawSecret {
    #[serde(default)]
    data: BTreeMap<String, ByteString>,
}

pub(crate) struct View {
    key: ObjectKey,
    uid: String,
    revision: i64,
    /// `None`: an end that cannot be read is no reason to keep a token for ever.
    expires: Option<Timestamp>,
}

impl TokenCleaner {
    pub(crate) fn new(factory: &Factory) -> Self {
        Self {
            tokens: factory.cache(ListRequest {
                resource: resource_of::<Secret>(),
                namespace: Some(NAMESPACE.to_owned()),
                label_selector: String::new(),
                field_selector: format!("type={SECRET_TYPE}"),
            }),
        }
    }
}

impl Controller for TokenCleaner {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "token-cleaner";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.tokens);
    }

    /// Only tokens that have an end are looked at.
    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self
            .tokens
            .get(key)
            .filter(|token| !token.index.is_being_deleted)?;
        let secret: RawSecret = stored.decode().ok()?;
        let expiration = secret.data.get(EXPIRATION)?;
        let expiration = std::str::from_utf8(&expiration.0).unwrap_or_default();
        if expiration.is_empty() {
            return None;
        }
        Some(View {
            key: key.clone(),
            uid: stored.index.uid.clone(),
            revision: stored.revision,
            expires: Timestamp::parse(expiration),
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let left = view.expires.map(|expires| expires.saturating_since(now));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Plan {
                again_after: Some(left),
                ..Plan::nothing()
            };
        }
        Plan::of(vec![Action::Delete {
            resource: resource_of::<Secret>(),
            key: view.key.clone(),
            options: DeleteOptions {
                // Somebody may have given it more time meanwhile.
                resource_version: Some(view.revision.to_string()),
                ..DeleteOptions::only(view.uid.clone())
            },
            announcement: None,
        }])
    }
}
