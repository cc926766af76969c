//! Priority: a pod's priority comes from its class; the default class is the default.

use std::sync::Arc;

use apimachinery::{ApiError, ObjectKey, StoredObject};
use async_trait::async_trait;
use auth::Objects;
use serde_json::Value;

use crate::{AdmissionRequest, Operation, Plugin};

const GROUP: &str = "scheduling.k8s.io";
const PREEMPT_LOWER: &str = "PreemptLowerPriority";

#[derive(Debug)]
pub(crate) struct Priority {
    objects: Arc<dyn Objects>,
}

struct Class {
    name: String,
    value: i64,
    preemption_policy: String,
}

impl Priority {
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn class(&self, name: &str) -> Option<Class> {
        let stored = self
            .objects
            .get(GROUP, "priorityclasses", &ObjectKey::cluster(name))
            .await?;
        Some(read(&stored))
    }

    /// The lowest class that is marked as default for all.
    async fn default_class(&self) -> Option<Class> {
        self.objects
            .list(GROUP, "priorityclasses", "")
            .await
            .iter()
            .filter(|stored| {
                stored
                    .decode::<Value>()
                    .is_ok_and(|value| value["globalDefault"] == true)
            })
            .map(read)
            .min_by_key(|class| class.value)
    }

    async fn admit_pod(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(pod) = request.object.as_deref() else {
            return Ok(());
        };
        let named = pod.text_at(&["spec", "priorityClassName"]);
        let class = if named.is_empty() {
            self.default_class().await.unwrap_or(Class {
                name: String::new(),
                value: 0,
                preemption_policy: PREEMPT_LOWER.to_owned(),
            })
        } else {
            match self.class(&named).await {
                Some(class) => class,
                None => {
                    return Err(
                        request.forbidden(format!("no PriorityClass with name {named} was found"))
                    );
                }
            }
        };
        let Some(pod) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let stated = pod.at(&["spec", "priority"]).and_then(Value::as_i64);
        let stated_policy = pod.text_at(&["spec", "preemptionPolicy"]);
        if stated.is_some_and(|stated| stated != class.value) {
            let why = format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                stated.unwrap_or_default(),
                class.value
            );
            return Err(request.forbidden(why));
        }
        if !stated_policy.is_empty() && stated_policy != class.preemption_policy {
            let why = format!(
                "the string value of PreemptionPolicy ({stated_policy}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                class.preemption_policy
            );
            return Err(request.forbidden(why));
        }
        if !class.name.is_empty() {
            pod.set_at(&["spec", "priorityClassName"], class.name.into());
        }
        pod.set_at(&["spec", "priority"], class.value.into());
        pod.set_at(
            &["spec", "preemptionPolicy"],
            class.preemption_policy.into(),
        );
        Ok(())
    }
}

fn read(stored: &StoredObject) -> Class {
    let value: Value = stored.decode().unwrap_or_default();
    Class {
        name: stored.key().name.clone(),
        value: value["value"].as_i64().unwrap_or(0),
        preemption_policy: value["preemptionPolicy"]
            .as_str()
            .unwrap_or(PREEMPT_LOWER)
            .to_owned(),
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !request.is_for("", "pods") {
            return Ok(());
        }
        match (request.operation, request.old) {
            (Operation::Create, _) => self.admit_pod(request).await,
            (Operation::Update, Some(old)) => {
                // An update that leaves these out keeps them: they were computed, not written by the client.
                let kept: Vec<(&str, Value)> = ["priority", "preemptionPolicy"]
                    .into_iter()
                    .filter_map(|field| Some((field, old.at(&["spec", field])?.clone())))
                    .collect();
                let Some(pod) = request.object.as_deref_mut() else {
                    return Ok(());
                };
                for (field, value) in kept {
                    if pod.at(&["spec", field]).is_none_or(Value::is_null) {
                        pod.set_at(&["spec", field], value);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        let is_write = matches!(request.operation, Operation::Create | Operation::Update);
        if !request.is_for(GROUP, "priorityclasses") || !is_write {
            return Ok(Vec::new());
        }
        let Some(class) = request.object.as_deref() else {
            return Ok(Vec::new());
        };
        if class.at(&["globalDefault"]).and_then(Value::as_bool) != Some(true) {
            return Ok(Vec::new());
        }
        match self.default_class().await {
            Some(other) if other.name != class.name() => Err(request.forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name
            ))),
            _ => Ok(Vec::new()),
        }
    }
}
