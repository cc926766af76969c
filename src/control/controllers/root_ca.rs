//! Publishes the API server's certificate authority as `ConfigMap` `kube-root-ca.crt` in every namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::ObjectKey;
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;

const NAME: &str = "kube-root-ca.crt";
const FIELD: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

pub(crate) struct RootCa {
    namespaces: Arc<Cache>,
    maps: Arc<Cache>,
    /// PEM.
    certificate_authority: String,
}

/// A namespace that is not going away, and what it has.
pub(crate) struct View {
    namespace: String,
    standing: Option<Standing>,
}

struct Standing {
    data: BTreeMap<String, String>,
    has_description: bool,
}

impl RootCa {
    pub(crate) fn new(factory: &Factory, certificate_authority: String) -> Self {
        Self {
            namespaces: factory.all::<Namespace>(),
            maps: factory.all::<ConfigMap>(),
            certificate_authority,
        }
    }
}

impl Controller for RootCa {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "root-ca-cert-publisher";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.namespaces);
        on.mapped(&self.maps, |change| {
            let is_ours = change.key().name == NAME;
            is_ours
                .then(|| ObjectKey::cluster(change.key().namespace.clone()))
                .into_iter()
                .collect()
        });
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        self.namespaces
            .get(key)
            .filter(|namespace| !namespace.index.is_being_deleted)?;
        let standing = self
            .maps
            .get(&ObjectKey::namespaced(key.name.clone(), NAME));
        let standing = standing
            .and_then(|map| map.decode::<ConfigMap>().ok())
            .map(|map| Standing {
                data: map.data.unwrap_or_default(),
                has_description: map.metadata.annotations.is_some_and(|annotations| {
                    annotations
                        .get(DESCRIPTION)
                        .is_some_and(|text| !text.is_empty())
                }),
            });
        Some(View {
            namespace: key.name.clone(),
            standing,
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let data = BTreeMap::from([(FIELD.to_owned(), self.certificate_authority.clone())]);
        let mut map = ConfigMap {
            data: Some(data.clone()),
            ..ConfigMap::default()
        };
        map.metadata.name = Some(NAME.to_owned());
        map.metadata.namespace = Some(view.namespace.clone());
        map.metadata.annotations = Some(BTreeMap::from([(
            DESCRIPTION.to_owned(),
            DESCRIPTION_TEXT.to_owned(),
        )]));
        match &view.standing {
            None => Plan::of(vec![Action::create(&map)]),
            Some(standing) if standing.data != data || !standing.has_description => {
                // Other keys in it are removed: the map says this and nothing else.
                let mut wanted: BTreeMap<&str, Option<&str>> = standing
                    .data
                    .keys()
                    .map(|key| (key.as_str(), None))
                    .collect();
                wanted.insert(FIELD, Some(&self.certificate_authority));
                let patch = json!({
                    "metadata": {"annotations": {DESCRIPTION: DESCRIPTION_TEXT}}, "data": wanted,
                });
                let key = ObjectKey::namespaced(view.namespace.clone(), NAME);
                Plan::of(vec![Action::merge::<ConfigMap>(key, patch)])
            }
            Some(_) => Plan::nothing(),
        }
    }
}
