//! LimitRanger: defaults and bounds for what pods and claims of a namespace ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{ApiError, Object, Quantity};
use async_trait::async_trait;
use auth::Objects;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{AdmissionRequest, Operation, Plugin};

type Amounts = BTreeMap<String, String>;

#[derive(Debug)]
pub(crate) struct LimitRanger {
    objects: Arc<dyn Objects>,
}

#[derive(Deserialize)]
struct RangeView {
    #[serde(default)]
    spec: RangeSpec,
}

#[derive(Default, Deserialize)]
struct RangeSpec {
    #[serde(default)]
    limits: Vec<Limit>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limit {
    #[serde(rename = "type")]
    kind: String,
    max: Amounts,
    min: Amounts,
    default: Amounts,
    default_request: Amounts,
    max_limit_request_ratio: Amounts,
}

impl LimitRanger {
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// The ranges of the namespace by name.
    async fn ranges(&self, namespace: &str) -> Vec<(String, Vec<Limit>)> {
        let stored = self.objects.list("", "limitranges", namespace).await;
        stored
            .iter()
            .filter_map(|range| {
                Some((
                    range.key().name.clone(),
                    range.decode::<RangeView>().ok()?.spec.limits,
                ))
            })
            .collect()
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !request.is_for("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        for (range, limits) in self.ranges(request.namespace).await {
            let Some(pod) = request.object.as_deref_mut() else {
                continue;
            };
            for limit in limits.iter().filter(|limit| limit.kind == "Container") {
                default_containers(pod, &range, limit);
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        let is_pod = request.is_for("", "pods") && request.operation == Operation::Create;
        let is_claim = request.is_for("", "persistentvolumeclaims")
            && matches!(request.operation, Operation::Create | Operation::Update);
        let Some(object) = request.object.as_deref().filter(|_| is_pod || is_claim) else {
            return Ok(Vec::new());
        };
        for (_, limits) in self.ranges(request.namespace).await {
            let problems: Vec<String> = limits
                .iter()
                .flat_map(|limit| violations(object, is_pod, limit))
                .collect();
            match problems.as_slice() {
                [] => {}
                [only] => return Err(request.forbidden(only.clone())),
                several => return Err(request.forbidden(format!("[{}]", several.join(", ")))),
            }
        }
        Ok(Vec::new())
    }
}

fn containers<'a>(pod: &'a Object, list: &str) -> impl Iterator<Item = &'a Value> {
    pod.at(&["spec", list])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn default_containers(pod: &mut Object, _range: &str, limit: &Limit) {
    let mut notes = Vec::new();
    for (list, word) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let Some(Value::Array(mut changed)) = pod.at(&["spec", list]).cloned() else {
            continue;
        };
        for container in &mut changed {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, defaults, what) in [
                ("limits", &limit.default, "limit"),
                ("requests", &limit.default_request, "request"),
            ] {
                let set = default_amounts(container, field, defaults);
                if !set.is_empty() {
                    notes.push((what, format!("{} {what} for {word} {name}", set.join(", "))));
                }
            }
        }
        pod.set_at(&["spec", list], changed.into());
    }
    if !notes.is_empty() {
        notes.sort_by_key(|(what, _)| *what != "request");
        let notes: Vec<String> = notes.into_iter().map(|(_, note)| note).collect();
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.set_at(
            &["metadata", "annotations", "kubernetes.io/limit-ranger"],
            text.into(),
        );
    }
}

/// Sets what is missing in `resources.<field>`; answers the names that were set.
fn default_amounts(container: &mut Value, field: &str, defaults: &Amounts) -> Vec<String> {
    let mut set = Vec::new();
    for (resource, amount) in defaults {
        if container["resources"][field][resource].is_null() {
            if !container["resources"].is_object() {
                container["resources"] = json!({});
            }
            if !container["resources"][field].is_object() {
                container["resources"][field] = json!({});
            }
            container["resources"][field][resource] = amount.clone().into();
            set.push(resource.clone());
        }
    }
    set
}

fn violations(object: &Object, is_pod: bool, limit: &Limit) -> Vec<String> {
    match (is_pod, limit.kind.as_str()) {
        (true, "Container") => containers(object, "containers")
            .chain(containers(object, "initContainers"))
            .flat_map(|container| {
                check(
                    limit,
                    &amounts(&container["resources"]["requests"]),
                    &amounts(&container["resources"]["limits"]),
                )
            })
            .collect(),
        (true, "Pod") => check(
            limit,
            &pod_total(object, "requests"),
            &pod_total(object, "limits"),
        ),
        (false, "PersistentVolumeClaim") => {
            let requests = amounts(
                object
                    .at(&["spec", "resources", "requests"])
                    .unwrap_or(&Value::Null),
            );
            let limit = Limit {
                max_limit_request_ratio: Amounts::new(),
                ..clone_bounds(limit)
            };
            check_requests(&limit, &requests)
        }
        _ => Vec::new(),
    }
}

fn clone_bounds(limit: &Limit) -> Limit {
    Limit {
        kind: limit.kind.clone(),
        max: limit.max.clone(),
        min: limit.min.clone(),
        ..Limit::default()
    }
}

fn amounts(value: &Value) -> BTreeMap<String, Quantity> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(&text_of(amount)).ok()?)))
        .collect()
}

fn text_of(amount: &Value) -> String {
    amount
        .as_str()
        .map_or_else(|| amount.to_string(), str::to_owned)
}

/// What a pod asks for in all: the sum over its containers, at least what its largest init container asks for.
fn pod_total(pod: &Object, field: &str) -> BTreeMap<String, Quantity> {
    let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in containers(pod, "containers") {
        for (name, amount) in amounts(&container["resources"][field]) {
            let sum = total
                .get(&name)
                .map_or(amount, |sum| sum.saturating_add(amount));
            total.insert(name, sum);
        }
    }
    for container in containers(pod, "initContainers") {
        for (name, amount) in amounts(&container["resources"][field]) {
            let larger = total.get(&name).map_or(amount, |sum| (*sum).max(amount));
            total.insert(name, larger);
        }
    }
    total
}

fn check_requests(limit: &Limit, requests: &BTreeMap<String, Quantity>) -> Vec<String> {
    let kind = &limit.kind;
    let mut problems = Vec::new();
    for (resource, bound) in quantities(&limit.min) {
        match requests.get(&resource) {
            None => problems.push(format!(
                "minimum {resource} usage per {kind} is {bound}.  No request is specified"
            )),
            Some(asked) if *asked < bound => {
                problems.push(format!(
                    "minimum {resource} usage per {kind} is {bound}, but request is {asked}"
                ));
            }
            Some(_) => {}
        }
    }
    for (resource, bound) in quantities(&limit.max) {
        match requests.get(&resource) {
            None => problems.push(format!(
                "maximum {resource} usage per {kind} is {bound}.  No request is specified"
            )),
            Some(asked) if *asked > bound => {
                problems.push(format!(
                    "maximum {resource} usage per {kind} is {bound}, but request is {asked}"
                ));
            }
            Some(_) => {}
        }
    }
    problems
}

fn quantities(amounts: &Amounts) -> impl Iterator<Item = (String, Quantity)> {
    amounts
        .iter()
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount).ok()?)))
}

fn check(
    limit: &Limit,
    requests: &BTreeMap<String, Quantity>,
    limits: &BTreeMap<String, Quantity>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (resource, bound) in quantities(&limit.min) {
        problems.extend(below_min(
            &limit.kind,
            &resource,
            bound,
            requests.get(&resource),
            limits.get(&resource),
        ));
    }
    for (resource, bound) in quantities(&limit.max) {
        problems.extend(above_max(
            &limit.kind,
            &resource,
            bound,
            requests.get(&resource),
            limits.get(&resource),
        ));
    }
    for (resource, bound) in quantities(&limit.max_limit_request_ratio) {
        problems.extend(above_ratio(
            &limit.kind,
            &resource,
            bound,
            requests.get(&resource),
            limits.get(&resource),
        ));
    }
    problems
}

fn below_min(
    kind: &str,
    resource: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    match (request, limit) {
        (None, _) => Some(format!(
            "minimum {resource} usage per {kind} is {bound}.  No request is specified"
        )),
        (Some(request), _) if *request < bound => Some(format!(
            "minimum {resource} usage per {kind} is {bound}, but request is {request}"
        )),
        (_, Some(limit)) if *limit < bound => Some(format!(
            "minimum {resource} usage per {kind} is {bound}, but limit is {limit}"
        )),
        _ => None,
    }
}

fn above_max(
    kind: &str,
    resource: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    match (request, limit) {
        (_, None) => Some(format!(
            "maximum {resource} usage per {kind} is {bound}.  No limit is specified"
        )),
        (_, Some(limit)) if *limit > bound => Some(format!(
            "maximum {resource} usage per {kind} is {bound}, but limit is {limit}"
        )),
        (Some(request), _) if *request > bound => Some(format!(
            "maximum {resource} usage per {kind} is {bound}, but request is {request}"
        )),
        _ => None,
    }
}

fn above_ratio(
    kind: &str,
    resource: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let (Some(request), Some(limit)) = (request, limit) else {
        return Some(format!(
            "{resource} max limit to request ratio per {kind} is {bound}, but no request is specified or request is 0"
        ));
    };
    if request.is_zero() {
        return Some(format!(
            "{resource} max limit to request ratio per {kind} is {bound}, but no request is specified or request is 0"
        ));
    }
    let ratio_thousandths = i128::from(limit.millis()) * 1000 / i128::from(request.millis().max(1));
    if ratio_thousandths <= i128::from(bound.millis()) {
        return None;
    }
    let whole = ratio_thousandths / 1000;
    let rest = ratio_thousandths % 1000;
    Some(format!(
        "{resource} max limit to request ratio per {kind} is {bound}, but provided ratio is {whole}.{rest:03}000"
    ))
}
