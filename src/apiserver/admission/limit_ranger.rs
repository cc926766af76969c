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

    /// The limits of every range of the namespace.
    async fn ranges(&self, namespace: &str) -> Vec<Vec<Limit>> {
        let stored = self.objects.list("", "limitranges", namespace).await;
        stored
            .iter()
            .filter_map(|range| Some(range.decode::<RangeView>().ok()?.spec.limits))
            .collect()
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !gives_pod_resources(request) {
            return Ok(());
        }
        for limits in self.ranges(request.namespace).await {
            let Some(pod) = request.object.as_deref_mut() else {
                continue;
            };
            for limit in limits.iter().filter(|limit| limit.kind == "Container") {
                default_containers(pod, limit);
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        let is_pod = gives_pod_resources(request);
        let is_claim = request.is_for("", "persistentvolumeclaims")
            && matches!(request.operation, Operation::Create | Operation::Update)
            && !is_going(request);
        let Some(object) = request.object.as_deref().filter(|_| is_pod || is_claim) else {
            return Ok(Vec::new());
        };
        for limits in self.ranges(request.namespace).await {
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

/// A pod's resources are told when it is made, and when it is resized.
fn gives_pod_resources(request: &AdmissionRequest<'_>) -> bool {
    let is_pod = request.resource.group.is_empty() && request.resource.resource == "pods";
    let gives = match request.operation {
        Operation::Create => request.subresource.is_empty(),
        Operation::Update => request.subresource == "resize" && !is_going(request),
        Operation::Delete | Operation::Connect => false,
    };
    is_pod && gives
}

/// What is being deleted may finish as it is.
fn is_going(request: &AdmissionRequest<'_>) -> bool {
    request.old.is_some_and(Object::is_being_deleted)
}

fn containers<'a>(pod: &'a Object, list: &str) -> impl Iterator<Item = &'a Value> {
    pod.at(&["spec", list])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn default_containers(pod: &mut Object, limit: &Limit) {
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
            bounds(limit, |_, resource| {
                vec![("request", requests.get(resource))]
            })
        }
        _ => Vec::new(),
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

fn quantities(amounts: &Amounts) -> impl Iterator<Item = (String, Quantity)> {
    amounts
        .iter()
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount).ok()?)))
}

/// An edge that amounts stay within.
#[derive(Clone, Copy)]
enum Edge {
    Minimum,
    Maximum,
}

/// An amount that was asked for, by the word that says what it is.
type Asked<'a> = (&'a str, Option<&'a Quantity>);

fn check(
    limit: &Limit,
    requests: &BTreeMap<String, Quantity>,
    limits: &BTreeMap<String, Quantity>,
) -> Vec<String> {
    let mut problems = bounds(limit, |edge, resource| {
        let request = ("request", requests.get(resource));
        let limit = ("limit", limits.get(resource));
        match edge {
            Edge::Minimum => vec![request, limit],
            Edge::Maximum => vec![limit, request],
        }
    });
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

/// What lies outside of minimum and maximum. The first amount of a resource must be there.
fn bounds<'a>(limit: &Limit, asked: impl Fn(Edge, &str) -> Vec<Asked<'a>>) -> Vec<String> {
    let minima = quantities(&limit.min).map(|bound| (Edge::Minimum, bound));
    let maxima = quantities(&limit.max).map(|bound| (Edge::Maximum, bound));
    minima
        .chain(maxima)
        .filter_map(|(edge, (resource, bound))| {
            let why = edge.broken_by(bound, &asked(edge, &resource))?;
            let word = edge.word();
            Some(format!(
                "{word} {resource} usage per {} is {bound}{why}",
                limit.kind
            ))
        })
        .collect()
}

impl Edge {
    fn word(self) -> &'static str {
        match self {
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
        }
    }

    fn broken_by(self, bound: Quantity, asked: &[Asked<'_>]) -> Option<String> {
        if let Some((what, None)) = asked.first() {
            return Some(format!(".  No {what} is specified"));
        }
        let (what, amount) = asked
            .iter()
            .filter_map(|(what, amount)| Some((what, (*amount)?)))
            .find(|(_, amount)| match self {
                Self::Minimum => **amount < bound,
                Self::Maximum => **amount > bound,
            })?;
        Some(format!(", but {what} is {amount}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_of_a_bound_or_missing_is_told() {
        let amount = |text: &str| BTreeMap::from([("cpu".to_owned(), text.to_owned())]);
        let limit = Limit {
            kind: "Container".to_owned(),
            min: amount("100m"),
            max: amount("1"),
            ..Limit::default()
        };
        let asks = |text: &str| amounts(&json!({ "cpu": text }));
        let nothing = BTreeMap::new();
        assert_eq!(
            check(&limit, &nothing, &nothing),
            [
                "minimum cpu usage per Container is 100m.  No request is specified",
                "maximum cpu usage per Container is 1.  No limit is specified"
            ]
        );
        assert_eq!(
            check(&limit, &asks("50m"), &asks("2")),
            [
                "minimum cpu usage per Container is 100m, but request is 50m",
                "maximum cpu usage per Container is 1, but limit is 2"
            ]
        );
        assert!(check(&limit, &asks("100m"), &asks("1")).is_empty());
    }
}
