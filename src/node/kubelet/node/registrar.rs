//! Keeps the Node object and its lease: made when missing, told on change and every few minutes.

use std::sync::Arc;
use std::time::Duration;

use env::Rng;
use informer::Cache;
use k8s_openapi::api::core::v1::Node;
use kube_client::{ClientError, Patch};
use serde_json::Value;

use crate::admission::node_key;
use crate::events::Severity;
use crate::node::object::{
    NodeFacts, StatusInputs, heartbeat_patch, label_patch, new_node, status, status_patch,
};
use crate::node::{PressureState, lease};
use crate::services::Services;

/// A lease is renewed this many times within its duration.
const RENEWALS: u32 = 4;
/// A call that failed is made again after this time, doubled up to the longest and stretched by chance up to twice, so that
/// nodes do not come all at once when their server is back.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

pub(crate) struct NodeRegistrar {
    pub(crate) services: Arc<Services>,
    /// The node's own object.
    pub(crate) node: Arc<Cache>,
    pub(crate) facts: NodeFacts,
    pub(crate) pressure: Arc<PressureState>,
    /// The port of the kubelet's server.
    pub(crate) port: u16,
}

impl NodeRegistrar {
    /// Runs until its caller ends it.
    pub(crate) async fn run(self) {
        let name = self.services.config.node_name.clone();
        self.services
            .events
            .node(&name, Severity::Normal, "Starting", "Starting kubelet.");
        let mut outage = Outage::new("the node is not registered yet");
        while let Err(error) = self.register().await {
            env::sleep(outage.failed(&error, &*self.services.rng)).await;
        }
        tokio::join!(self.keep_lease(), self.keep_status());
    }

    /// The object as the API has it.
    async fn current(&self) -> Result<Option<Value>, ClientError> {
        let api = self.services.client.api::<Node>("");
        match api.dynamic().get(&self.services.config.node_name).await {
            Ok(object) => Ok(Some(object.into_value())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn register(&self) -> Result<(), ClientError> {
        let config = &self.services.config;
        let api = self.services.client.api::<Node>("");
        match self.current().await? {
            None => match api.dynamic().create_as::<_, Value>(&new_node(config)).await {
                Ok(_) => {}
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            },
            Some(node) => {
                if let Some(patch) = label_patch(config, &node) {
                    api.patch(&config.node_name, &Patch::Strategic(patch))
                        .await?;
                }
            }
        }
        self.update_status(Told::Changes).await
    }

    async fn keep_lease(&self) {
        let config = &self.services.config;
        let every = config.lease_duration / RENEWALS;
        let mut outage = Outage::new("the node's lease is not renewed");
        loop {
            let uid = self
                .node
                .get(&node_key(&config.node_name))
                .map(|node| node.index.uid.clone())
                .unwrap_or_default();
            let now = self.services.clock.now();
            let seconds = config.lease_duration.as_secs();
            let renewed =
                lease::renew(&self.services.client, &config.node_name, &uid, seconds, now).await;
            let wait = match renewed {
                Ok(()) => {
                    outage.ended();
                    every
                }
                Err(error) => outage.failed(&error, &*self.services.rng),
            };
            env::sleep(wait).await;
        }
    }

    async fn keep_status(&self) {
        let subscription = self.node.subscribe();
        let mut addresses = self.services.config.node_addresses.clone();
        let mut network_fault = self.services.config.network_fault.clone();
        loop {
            let told = tokio::select! {
                biased;
                () = self.pressure.changed() => Told::Changes,
                Ok(()) = addresses.changed() => Told::Changes,
                Ok(()) = network_fault.changed() => Told::Changes,
                change = subscription.next() => {
                    if change.new.is_none() {
                        // Somebody deleted the node while it lives: it comes back.
                        if let Err(error) = self.register().await {
                            tracing::warn!(%error, "the node is not registered again yet");
                        }
                    }
                    Told::Changes
                }
                () = env::sleep(self.services.config.node_status_every) => Told::Heartbeat,
            };
            let mut outage = Outage::new("the node's status is not written yet");
            while let Err(error) = self.update_status(told).await {
                env::sleep(outage.failed(&error, &*self.services.rng)).await;
            }
        }
    }

    async fn update_status(&self, told: Told) -> Result<(), ClientError> {
        let Some(node) = self.current().await? else {
            return Ok(());
        };
        let images = self
            .services
            .images
            .list_images()
            .await
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "the images are not told");
                Vec::new()
            });
        let pressure = self.pressure.get();
        let inputs = StatusInputs {
            config: &self.services.config,
            facts: &self.facts,
            capacity: &self.services.node,
            images: &images,
            pressure: &pressure,
            port: self.port,
            now: self.services.clock.now(),
        };
        let wanted = status(&inputs, &node["status"]);
        let patch = match (status_patch(&node["status"], &wanted), told) {
            (Some(patch), _) => patch,
            (None, Told::Heartbeat) => heartbeat_patch(&wanted),
            (None, Told::Changes) => return Ok(()),
        };
        let name = &self.services.config.node_name;
        self.services
            .client
            .api::<Node>("")
            .dynamic()
            .patch_status(name, &Patch::Strategic(patch))
            .await?;
        self.tell_changes(&node["status"], &wanted);
        Ok(())
    }

    fn tell_changes(&self, old: &Value, wanted: &Value) {
        let name = &self.services.config.node_name;
        for condition in wanted["conditions"].as_array().into_iter().flatten() {
            let before = old["conditions"]
                .as_array()
                .and_then(|all| all.iter().find(|other| other["type"] == condition["type"]));
            if before.is_some_and(|before| before["status"] == condition["status"]) {
                continue;
            }
            let reason = match (condition["type"].as_str(), condition["status"].as_str()) {
                (Some("Ready"), Some("True")) => "NodeReady",
                (Some("MemoryPressure"), Some("True")) => "NodeHasInsufficientMemory",
                (Some("MemoryPressure"), _) => "NodeHasSufficientMemory",
                (Some("DiskPressure"), Some("True")) => "NodeHasDiskPressure",
                (Some("DiskPressure"), _) => "NodeHasNoDiskPressure",
                (Some("PIDPressure"), Some("True")) => "NodeHasInsufficientPID",
                (Some("PIDPressure"), _) => "NodeHasSufficientPID",
                _ => continue,
            };
            self.services.events.node(
                name,
                Severity::Normal,
                reason,
                format!("Node {name} status is now: {reason}"),
            );
        }
    }
}

/// Calls that fail one after the other: told once, tried again ever less often.
struct Outage {
    what: &'static str,
    failures: u32,
}

impl Outage {
    fn new(what: &'static str) -> Self {
        Self { what, failures: 0 }
    }

    /// How long to wait before the next attempt.
    fn failed(&mut self, error: &ClientError, rng: &dyn Rng) -> Duration {
        if self.failures == 0 {
            tracing::warn!(%error, "{}", self.what);
        } else {
            tracing::debug!(%error, "{}", self.what);
        }
        let doubled = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        let wait = doubled.min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        let stretch = rng.below(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        wait + Duration::from_millis(stretch)
    }

    fn ended(&mut self) {
        self.failures = 0;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Only if something has changed.
    Changes,
    /// In any case.
    Heartbeat,
}
