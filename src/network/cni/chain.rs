//! An operation by all plugins of a network, as "Execution of Network Configurations" of the specification orders it.

use serde_json::{Map, Value};

use crate::configuration::{Network, PluginConfiguration};
use crate::error::Error;
use crate::plugin::{Call, Operation};

/// From here on plugins get the answer of ADD again when they take away, and can be asked to check.
const VERSION_OF_KEPT_ANSWERS: &str = "0.4.0";
/// From here on plugins say whether they could add, and collect what is left over.
const VERSION_OF_STATUS: &str = "1.1.0";
/// The key under which plugins that collect are told what must stay.
const VALID: &str = "cni.dev/valid-attachments";

/// The plugins of a network, and what each is told.
#[derive(Clone, Debug)]
pub(crate) struct Chain<'a> {
    pub(crate) network: &'a Network,
    pub(crate) call: Call<'a>,
    /// What is known about the pod, by the names under which plugins ask for it.
    pub(crate) capabilities: &'a Map<String, Value>,
}

impl Chain<'_> {
    /// Each gets the answer of the one before; the last one's is the network's.
    pub(crate) async fn add(&self) -> Result<Value, Error> {
        let mut answer = Value::Null;
        for plugin in &self.network.plugins {
            let input = self.input(plugin, &answer);
            answer = self.call.run(Operation::Add, &plugin.kind, &input).await?;
        }
        Ok(answer)
    }

    /// Whether what was added, with this answer, is as it should be.
    pub(crate) async fn check(&self, answer: &Value) -> Result<(), Error> {
        if self.is_before(VERSION_OF_KEPT_ANSWERS) || self.network.disabled.check {
            return Ok(());
        }
        for plugin in &self.network.plugins {
            let input = self.input(plugin, answer);
            let checked = self.call.run(Operation::Check, &plugin.kind, &input);
            drop(checked.await?);
        }
        Ok(())
    }

    /// The last one first, each with the network's answer.
    pub(crate) async fn delete(&self, answer: Option<&Value>) -> Result<(), Error> {
        let answer = answer.filter(|_answer| !self.is_before(VERSION_OF_KEPT_ANSWERS));
        let answer = answer.unwrap_or(&Value::Null);
        for plugin in self.network.plugins.iter().rev() {
            let input = self.input(plugin, answer);
            match self.call.run(Operation::Del, &plugin.kind, &input).await {
                // Whoever removed it gives nothing back any more, and the pod must go all the same.
                Err(error @ Error::Program { .. }) => {
                    tracing::warn!(%error, "a plugin that is not there takes nothing away");
                }
                done => drop(done?),
            }
        }
        Ok(())
    }

    /// Whether all could add. Those of older versions are believed to.
    pub(crate) async fn status(&self) -> Result<(), Error> {
        if self.is_before(VERSION_OF_STATUS) {
            return Ok(());
        }
        for plugin in &self.network.plugins {
            let input = self.input(plugin, &Value::Null);
            let asked = self.call.run(Operation::Status, &plugin.kind, &input);
            drop(asked.await?);
        }
        Ok(())
    }

    /// Takes away what belongs to none of these attachments. All plugins are asked, whatever the others said.
    pub(crate) async fn sweep(&self, valid: &Value) -> Vec<Error> {
        if self.is_before(VERSION_OF_STATUS) || self.network.disabled.gc {
            return Vec::new();
        }
        let mut errors = Vec::new();
        for plugin in &self.network.plugins {
            let mut input = self.input(plugin, &Value::Null);
            input[VALID] = valid.clone();
            let swept = self.call.run(Operation::Gc, &plugin.kind, &input).await;
            errors.extend(swept.err());
        }
        errors
    }

    fn is_before(&self, version: &str) -> bool {
        self.network.version.as_str() < version
    }

    /// "Deriving request configuration from plugin configuration" of the specification.
    fn input(&self, plugin: &PluginConfiguration, previous: &Value) -> Value {
        let mut input: Map<String, Value> = plugin.rest.clone();
        for ours in ["capabilities", "cniVersions", "prevResult", "runtimeConfig"] {
            input.remove(ours);
        }
        input.insert("type".to_owned(), plugin.kind.clone().into());
        input.insert("name".to_owned(), self.network.name.clone().into());
        input.insert("cniVersion".to_owned(), self.network.version.clone().into());
        if !previous.is_null() {
            input.insert("prevResult".to_owned(), previous.clone());
        }
        let known = self.capabilities.iter();
        let asked_for = known.filter(|(name, _value)| plugin.asks_for(name));
        let told: Map<String, Value> = asked_for
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !told.is_empty() {
            input.insert("runtimeConfig".to_owned(), told.into());
        }
        Value::Object(input)
    }
}

impl PluginConfiguration {
    fn asks_for(&self, capability: &str) -> bool {
        let asked = self.rest.get("capabilities");
        asked.and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
    }
}
