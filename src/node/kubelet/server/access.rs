//! Who asks, and what they may: decided by the API server, remembered for a short while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use env::Clock;
use kube_client::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How long an answer of the API server counts.
const ALLOWED_FOR: Duration = Duration::from_mins(5);
const DENIED_FOR: Duration = Duration::from_secs(30);
/// Answers that are remembered.
const ANSWERS_MAX: usize = 1024;

/// Somebody who was authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

impl Identity {
    pub fn anonymous() -> Self {
        Self {
            user: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    /// From a client certificate that was verified: common name and organizations.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let subject = pki::CertificateInfo::from_der(der).ok()?.subject;
        let mut groups = subject.organizations;
        groups.push("system:authenticated".to_owned());
        Some(Self {
            user: subject.common_name,
            groups,
        })
    }
}

/// What somebody wants of this node: a verb on a subresource of the Node object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    pub node_name: String,
    /// `get`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// `proxy`, `log`, `stats`, `metrics`, `pods`, `healthz`, `configz`, `checkpoint`.
    pub subresource: &'static str,
}

/// Asks the cluster. Wiring gives it; [`ApiAuthorizer`] is the usual one.
#[async_trait]
pub trait KubeletAuthorizer: Send + Sync {
    /// Whom a bearer token names; `None`: nobody.
    async fn authenticate(&self, token: &str) -> Option<Identity>;
    async fn is_allowed(&self, who: &Identity, attributes: &Attributes) -> bool;
}

/// Asks the API server by token and access reviews.
pub struct ApiAuthorizer {
    client: Client,
    clock: Arc<dyn Clock>,
    tokens: Mutex<Remembered<String, Option<Identity>>>,
    answers: Mutex<Remembered<(Identity, Attributes), bool>>,
}

struct Remembered<K, V>(BTreeMap<K, (V, Duration)>);

impl<K: Ord, V: Clone> Remembered<K, V> {
    fn get(&self, key: &K, now: Duration) -> Option<V> {
        self.0
            .get(key)
            .filter(|(_, until)| *until > now)
            .map(|(value, _)| value.clone())
    }

    fn put(&mut self, key: K, value: V, until: Duration, now: Duration) {
        if self.0.len() >= ANSWERS_MAX {
            self.0.retain(|_, (_, until)| *until > now);
        }
        if self.0.len() >= ANSWERS_MAX {
            self.0.clear();
        }
        self.0.insert(key, (value, until));
    }
}

impl ApiAuthorizer {
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            clock,
            tokens: Mutex::new(Remembered(BTreeMap::new())),
            answers: Mutex::new(Remembered(BTreeMap::new())),
        }
    }

    async fn review(
        &self,
        group: &'static str,
        resource: &'static str,
        review: &Value,
    ) -> Option<Value> {
        let resource = apimachinery::GroupVersionResource::new(group, "v1", resource);
        match self
            .client
            .dynamic(resource, "")
            .create_as::<_, Value>(review)
            .await
        {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(%error, "the API server does not review a request to the kubelet");
                None
            }
        }
    }
}

#[async_trait]
impl KubeletAuthorizer for ApiAuthorizer {
    async fn authenticate(&self, token: &str) -> Option<Identity> {
        let now = self.clock.monotonic();
        if let Some(known) = self.tokens.lock().get(&token.to_owned(), now) {
            return known;
        }
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let answer = self
            .review("authentication.k8s.io", "tokenreviews", &review)
            .await?;
        let status = &answer["status"];
        let identity = (status["authenticated"] == true).then(|| Identity {
            user: status["user"]["username"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            groups: serde_json::from_value(status["user"]["groups"].clone()).unwrap_or_default(),
        });
        let until = now
            + if identity.is_some() {
                ALLOWED_FOR.min(Duration::from_mins(2))
            } else {
                DENIED_FOR
            };
        self.tokens
            .lock()
            .put(token.to_owned(), identity.clone(), until, now);
        identity
    }

    async fn is_allowed(&self, who: &Identity, attributes: &Attributes) -> bool {
        let now = self.clock.monotonic();
        let key = (who.clone(), attributes.clone());
        if let Some(known) = self.answers.lock().get(&key, now) {
            return known;
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": who.user, "groups": who.groups,
            "resourceAttributes": {"verb": attributes.verb, "version": "v1", "resource": "nodes",
                "subresource": attributes.subresource, "name": attributes.node_name}
        }});
        let Some(answer) = self
            .review("authorization.k8s.io", "subjectaccessreviews", &review)
            .await
        else {
            return false;
        };
        let allowed = answer["status"]["allowed"] == true;
        let until = now + if allowed { ALLOWED_FOR } else { DENIED_FOR };
        self.answers.lock().put(key, allowed, until, now);
        allowed
    }
}
