//! Keeps the status of resource quotas true: what a namespace uses of each. Admission charges; this corrects and releases.
//!
//! A charge and the object it is for are one write: what is counted here is as new as the quota, or the charge would be undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, ObjectKey, Quantity, StoredObject};
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Change, Factory};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaSpec, Service,
};
use semantics::quota::{claim_usage, count_name, counts_pod, is_scoped, pod_usage, service_usage};
use semantics::resources::{Amounts, add, amounts};
use serde::Deserialize;
use serde_json::{Value, json};

/// Built-in resources that quotas count, with the version they are watched in.
const COUNTED: &[(&str, &str, &[&str])] = &[
    (
        "",
        "v1",
        &[
            "configmaps",
            "endpoints",
            "limitranges",
            "persistentvolumeclaims",
            "pods",
            "podtemplates",
            "replicationcontrollers",
            "resourcequotas",
            "secrets",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "apps",
        "v1",
        &[
            "controllerrevisions",
            "daemonsets",
            "deployments",
            "replicasets",
            "statefulsets",
        ],
    ),
    ("batch", "v1", &["cronjobs", "jobs"]),
    ("networking.k8s.io", "v1", &["ingresses", "networkpolicies"]),
    ("policy", "v1", &["poddisruptionbudgets"]),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &["rolebindings", "roles"],
    ),
    ("coordination.k8s.io", "v1", &["leases"]),
    ("discovery.k8s.io", "v1", &["endpointslices"]),
];
/// Core resources that are also counted under their bare name.
const BARE: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];

/// How long a quota that may just have been charged waits for the caches to see what for.
const SETTLE: Duration = Duration::from_millis(250);

pub(crate) struct ResourceQuotas {
    quotas: Arc<Cache>,
    counted: Vec<Arc<Cache>>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStatus {
    hard: BTreeMap<String, String>,
    used: BTreeMap<String, String>,
}

pub(crate) struct View {
    key: ObjectKey,
    revision: i64,
    hard: BTreeMap<String, String>,
    standing: RawStatus,
    used: BTreeMap<String, Quantity>,
    is_settled: bool,
}

impl ResourceQuotas {
    pub(crate) fn new(factory: &Factory) -> Self {
        let resources = COUNTED.iter().flat_map(|(group, version, resources)| {
            resources
                .iter()
                .map(|resource| GroupVersionResource::new(*group, *version, *resource))
        });
        Self {
            quotas: factory.all::<ResourceQuota>(),
            counted: resources.map(|resource| factory.all_of(resource)).collect(),
        }
    }

    /// Whether what this quota limits was seen up to this write of it.
    fn has_seen(&self, revision: i64, quota: &ResourceQuotaSpec) -> bool {
        let is_limited = |cache: &&Arc<Cache>| {
            let resource = &cache.request().resource;
            let mut names = quota.hard.iter().flat_map(BTreeMap::keys);
            names.any(|name| concerns(name, &resource.group, &resource.resource))
        };
        let mut limited = self.counted.iter().filter(is_limited);
        limited.any(|cache| cache.revision().is_some_and(|seen| seen >= revision))
    }

    /// What a namespace uses of the names that a quota limits.
    fn used(&self, namespace: &str, quota: &ResourceQuotaSpec, now: Timestamp) -> Amounts {
        let hard = amounts(quota.hard.as_ref());
        let mut used = Amounts::new();
        for cache in &self.counted {
            let resource = &cache.request().resource;
            let is_pods = resource.group.is_empty() && resource.resource == "pods";
            let is_limited = hard
                .keys()
                .any(|name| concerns(name, &resource.group, &resource.resource));
            if !is_limited || (is_scoped(quota) && !is_pods) {
                continue;
            }
            for object in cache.list_namespace(namespace) {
                add(&mut used, &usage(&object, resource, quota, now));
            }
        }
        hard.keys()
            .map(|name| {
                (
                    name.clone(),
                    used.get(name).copied().unwrap_or(Quantity::ZERO),
                )
            })
            .collect()
    }
}

/// Can objects of this resource use what has this name?
fn concerns(name: &str, group: &str, resource: &str) -> bool {
    if name.starts_with("count/") {
        return name == count_name(group, resource);
    }
    if !group.is_empty() {
        return false;
    }
    match resource {
        "services" => name.starts_with("services"),
        "persistentvolumeclaims" => {
            name.contains("storageclass.storage.k8s.io/")
                || matches!(name, "persistentvolumeclaims" | "requests.storage")
        }
        "pods" => {
            !name.starts_with("services")
                && !BARE.contains(&name)
                && name != "persistentvolumeclaims"
        }
        other => name == other,
    }
}

fn usage(
    object: &StoredObject,
    resource: &GroupVersionResource,
    quota: &ResourceQuotaSpec,
    now: Timestamp,
) -> Amounts {
    let one = Quantity::from_units(1);
    match (&*resource.group, &*resource.resource) {
        ("", "pods") => {
            let Ok(pod) = object.decode::<Pod>() else {
                return Amounts::new();
            };
            let is_counted = pod
                .spec
                .as_ref()
                .is_some_and(|spec| counts_pod(quota, spec));
            if is_counted {
                pod_usage(&pod, now)
            } else {
                Amounts::new()
            }
        }
        ("", "services") => object
            .decode::<Service>()
            .map(|service| service_usage(&service))
            .unwrap_or_default(),
        ("", "persistentvolumeclaims") => object
            .decode::<PersistentVolumeClaim>()
            .map(|claim| claim_usage(&claim))
            .unwrap_or_default(),
        (group, resource) => {
            let mut usage = Amounts::from([(count_name(group, resource), one)]);
            if group.is_empty() && BARE.contains(&resource) {
                usage.insert(resource.to_owned(), one);
            }
            usage
        }
    }
}

/// The quotas of a namespace in which something came, went, or changed what it uses.
fn quotas_of(quotas: &Cache, resource: &GroupVersionResource, change: &Change) -> Vec<ObjectKey> {
    let is_usage_same = match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let everything = ResourceQuotaSpec::default();
            let of =
                |object: &StoredObject| usage(object, resource, &everything, Timestamp::UNIX_EPOCH);
            old.index.uid == new.index.uid && of(old) == of(new)
        }
        _ => false,
    };
    if is_usage_same {
        return Vec::new();
    }
    let quotas = quotas.list_namespace(&change.key().namespace).into_iter();
    quotas.map(|quota| quota.key().clone()).collect()
}

impl Controller for ResourceQuotas {
    type View = View;
    /// The revision of the quota that was waited for.
    type Memory = Option<i64>;
    const NAME: &'static str = "resourcequota-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.quotas);
        for cache in &self.counted {
            let quotas = Arc::clone(&self.quotas);
            let resource = cache.request().resource.clone();
            on.mapped(cache, move |change| {
                // Most namespaces have no quota, and then nothing is decoded.
                if quotas.list_namespace(&change.key().namespace).is_empty() {
                    return Vec::new();
                }
                quotas_of(&quotas, &resource, change)
            });
        }
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, Option<i64>>) -> Option<View> {
        let stored = self.quotas.get(key)?;
        let raw: Raw = stored.decode().ok()?;
        let quota: ResourceQuotaSpec = apimachinery::from_tree(&raw.spec).ok()?;
        // Nothing was charged to a quota that says nothing yet.
        let is_settled = raw.status.hard.is_empty()
            || *past.memory == Some(stored.revision)
            || self.has_seen(stored.revision, &quota);
        *past.memory = Some(stored.revision);
        let hard = quota.hard.iter().flatten();
        Some(View {
            key: key.clone(),
            revision: stored.revision,
            hard: hard
                .map(|(name, amount)| (name.clone(), amount.0.clone()))
                .collect(),
            standing: raw.status,
            used: self.used(&key.namespace, &quota, past.now),
            is_settled,
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let parsed = |amounts: &BTreeMap<String, String>| -> BTreeMap<String, Option<Quantity>> {
            amounts
                .iter()
                .map(|(name, amount)| (name.clone(), Quantity::parse(amount).ok()))
                .collect()
        };
        let wanted = view
            .used
            .iter()
            .map(|(name, amount)| (name.clone(), Some(*amount)))
            .collect();
        if parsed(&view.standing.used) == wanted
            && parsed(&view.standing.hard) == parsed(&view.hard)
        {
            return Plan::nothing();
        }
        if !view.is_settled {
            return Plan {
                again_after: Some(SETTLE),
                ..Plan::nothing()
            };
        }
        let mut hard: BTreeMap<&String, Value> = view
            .standing
            .hard
            .keys()
            .map(|name| (name, Value::Null))
            .collect();
        hard.extend(
            view.hard
                .iter()
                .map(|(name, amount)| (name, Value::String(amount.clone()))),
        );
        let mut used: BTreeMap<&String, Value> = view
            .standing
            .used
            .keys()
            .map(|name| (name, Value::Null))
            .collect();
        used.extend(
            view.used
                .iter()
                .map(|(name, amount)| (name, Value::String(amount.to_string()))),
        );
        let patch = json!({
            "metadata": {"resourceVersion": view.revision.to_string()}, "status": {"hard": hard, "used": used},
        });
        Plan::of(vec![Action::merge_status::<ResourceQuota>(
            view.key.clone(),
            patch,
        )])
    }
}
