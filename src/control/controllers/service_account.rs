//! Gives every namespace its `default` service account.

use std::sync::Arc;

use apimachinery::ObjectKey;
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};

const DEFAULT: &str = "default";

pub(crate) struct ServiceAccounts {
    namespaces: Arc<Cache>,
    accounts: Arc<Cache>,
}

/// A namespace that is not going away.
pub(crate) struct View {
    namespace: String,
    has_account: bool,
}

impl ServiceAccounts {
    pub(crate) fn new(factory: &Factory) -> Self {
        Self {
            namespaces: factory.all::<Namespace>(),
            accounts: factory.all::<ServiceAccount>(),
        }
    }
}

impl Controller for ServiceAccounts {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "service-account-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.namespaces);
        on.mapped(&self.accounts, |change| {
            let is_lost = change.new.is_none() && change.key().name == DEFAULT;
            is_lost
                .then(|| ObjectKey::cluster(change.key().namespace.clone()))
                .into_iter()
                .collect()
        });
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        self.namespaces
            .get(key)
            .filter(|namespace| !namespace.index.is_being_deleted)?;
        let account = ObjectKey::namespaced(key.name.clone(), DEFAULT);
        Some(View {
            namespace: key.name.clone(),
            has_account: self.accounts.get(&account).is_some(),
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        if view.has_account {
            return Plan::nothing();
        }
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(DEFAULT.to_owned());
        account.metadata.namespace = Some(view.namespace.clone());
        Plan::of(vec![Action::create(&account)])
    }
}
