//! `/eviction`: deletes a pod unless a disruption budget forbids it.

use apimachinery::{ApiError, Cause, GroupVersionKind, LabelSelector, Object, ObjectKey};
use serde_json::{Value, json};
use storage::ListOptions;

use crate::answer::Answer;
use crate::call::{Call, FieldValidation, Ownership, Run, WriteOptions};
use crate::catalog::Served;
use crate::decode;
use crate::delete_options::{DeleteOptions, Preconditions};
use crate::modify::{Part, modify};
use crate::subresources::conditions::set_condition;
use crate::verbs::create::Outcome;
use crate::verbs::delete::delete_object;

/// Pods that one budget can let go before its controller looks again.
const DISRUPTED_PODS_MAX: usize = 2000;

pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let kind = GroupVersionKind::new("policy", "v1", "Eviction");
    let options = call.write_options()?;
    let eviction = decode::object_of(call, &kind, options.field_validation)?;
    if !eviction.name().is_empty() && eviction.name() != call.path.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut delete = match eviction
        .0
        .get("deleteOptions")
        .cloned()
        .and_then(Object::from_value)
    {
        Some(told) => DeleteOptions::of_object(told)?,
        None => DeleteOptions::default(),
    };
    if options.run.is_dry() {
        delete.set_dry();
    }
    let key = call.key();
    let pod = call
        .served
        .tree(&call.state.store.get(&call.served.collection, &key).await?)?;
    if !can_ignore_budgets(&pod) && spend_budget(call, &pod, delete.run()).await? {
        // The pod counted as unhealthy; if it became healthy meanwhile, the budget must be asked again.
        let seen = delete
            .preconditions
            .get_or_insert_with(Preconditions::default);
        seen.resource_version
            .get_or_insert_with(|| pod.resource_version().to_owned());
    }
    evict(call, &key, delete).await?;
    Ok(Answer::value(
        201,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        }),
    ))
}

/// Pods that disturb nobody any more, or did not begin yet.
fn can_ignore_budgets(pod: &Object) -> bool {
    matches!(
        pod.text_at(&["status", "phase"]).as_str(),
        "Succeeded" | "Failed" | "Pending"
    ) || pod.is_being_deleted()
}

/// Tells in the pod's status why it goes, and deletes it.
async fn evict(
    call: &Call<'_>,
    key: &ObjectKey,
    mut delete: DeleteOptions,
) -> Result<(), ApiError> {
    if delete.run() == Run::Real {
        let now = call.state.now().to_seconds_string();
        let options = WriteOptions {
            run: Run::Real,
            field_validation: FieldValidation::Ignore,
            field_manager: String::new(),
            ownership: Ownership::Tracked,
        };
        let preconditions = delete.preconditions.clone().unwrap_or_default();
        let outcome = modify(call, key, Part::Status, &options, |pod| {
            crate::verbs::delete::check_preconditions(call, Some(&preconditions), pod)?;
            let mut pod = pod.clone();
            let condition = json!({"type": "DisruptionTarget", "status": "True",
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
            set_condition(&mut pod, condition, &now);
            Ok(pod)
        })
        .await?;
        if let (Outcome::Stored(object), Some(told)) = (outcome, &mut delete.preconditions)
            && told.resource_version.is_some()
        {
            // It was our own write that moved the version.
            told.resource_version = Some(object.revision.to_string());
        }
    }
    delete_object(call, key, &delete).await.map(drop)
}

fn budgets_of(call: &Call<'_>) -> Result<std::sync::Arc<Served>, ApiError> {
    let catalog = call.state.catalog.load_full();
    let found = catalog
        .find("policy", "v1", "poddisruptionbudgets")
        .cloned();
    found.ok_or_else(|| ApiError::internal("pod disruption budgets are not served"))
}

/// Takes one disruption from the budget that guards the pod. `true`: the pod is unhealthy and needs none.
async fn spend_budget(call: &Call<'_>, pod: &Object, run: Run) -> Result<bool, ApiError> {
    let served = budgets_of(call)?;
    let options = ListOptions {
        namespace: Some(pod.namespace().to_owned()),
        ..ListOptions::default()
    };
    let budgets = call.state.store.list(&served.collection, &options).await?;
    let mut guards = Vec::new();
    for budget in &budgets.items {
        let tree = served.tree(budget)?;
        let selector = LabelSelector::from_object(tree.at(&["spec", "selector"]))
            .map_err(|error| ApiError::internal(error.to_string()))?;
        if selector.matches_with(|key| pod.label(key)) {
            guards.push(tree);
        }
    }
    let budget = match guards.as_slice() {
        [] => return Ok(false),
        [one] => one,
        _ => {
            return Err(ApiError::new(
                500,
                apimachinery::Reason::Unknown,
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    if !is_ready(pod) && may_evict_unhealthy(budget) {
        return Ok(true);
    }
    let call = Call {
        served: &served,
        body: bytes::Bytes::new(),
        ..*call
    };
    let key = ObjectKey::namespaced(budget.namespace(), budget.name());
    let options = WriteOptions {
        run,
        field_validation: FieldValidation::Ignore,
        field_manager: String::new(),
        ownership: Ownership::Tracked,
    };
    let now = call.state.now().to_seconds_string();
    modify(&call, &key, Part::Status, &options, |budget| {
        decremented(budget, pod.name(), &now)
    })
    .await?;
    Ok(false)
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn status_number(budget: &Object, field: &str) -> i64 {
    budget
        .at(&["status", field])
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

fn may_evict_unhealthy(budget: &Object) -> bool {
    let (current, desired) = (
        status_number(budget, "currentHealthy"),
        status_number(budget, "desiredHealthy"),
    );
    budget.text_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || (desired > 0 && current >= desired)
}

fn too_many_requests(cause: String, wait_seconds: u32) -> ApiError {
    let mut error = ApiError::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        wait_seconds,
    );
    if let Some(details) = &mut error.details {
        details.causes.push(Cause {
            reason: "DisruptionBudget".to_owned(),
            message: cause,
            field: String::new(),
        });
    }
    error
}

/// The budget with one disruption less, and a note of the pod that took it.
fn decremented(budget: &Object, pod: &str, now: &str) -> Result<Object, ApiError> {
    let name = budget.name();
    let observed = status_number(budget, "observedGeneration");
    if observed < budget.generation() {
        return Err(too_many_requests(
            format!("The disruption budget {name} is still being processed by the server."),
            10,
        ));
    }
    let allowed = status_number(budget, "disruptionsAllowed");
    let refused = |why: &str| {
        let resource = apimachinery::GroupResource::new("policy", "poddisruptionbudgets");
        ApiError::forbidden(&resource, name, why)
    };
    if allowed < 0 {
        return Err(refused("pdb disruptions allowed is negative"));
    }
    let disrupted = budget
        .at(&["status", "disruptedPods"])
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len);
    if disrupted > DISRUPTED_PODS_MAX {
        return Err(refused(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(too_many_requests(
            format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status_number(budget, "desiredHealthy"),
                status_number(budget, "currentHealthy")
            ),
            0,
        ));
    }
    let mut budget = budget.clone();
    budget.set_at(&["status", "disruptionsAllowed"], (allowed - 1).into());
    budget.set_at(&["status", "disruptedPods", pod], now.into());
    Ok(budget)
}
