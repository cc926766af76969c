//! Network configurations: a list of plugins, of which each gets its own part.

use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::trusted;

/// A configuration is a page of text at most; what is larger was not meant for us.
const BYTES_MAX: u64 = 1 << 20;
const PLUGINS_MAX: usize = 32;
/// The versions whose answers have `ips`, the newest first.
const VERSIONS: [&str; 5] = ["1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0"];

/// A network as its configuration describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// The version of the specification that the plugins are spoken to in.
    pub(crate) version: String,
    /// In the order in which they add.
    pub(crate) plugins: Vec<PluginConfiguration>,
    /// What the plugins must never be asked to do.
    #[serde(default)]
    pub(crate) disabled: Disabled,
}

/// What an administrator switched off for a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disabled {
    pub(crate) check: bool,
    pub(crate) gc: bool,
}

/// A plugin's part: everything that stands there is passed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PluginConfiguration {
    /// The name of the program.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    cni_versions: Vec<String>,
    #[serde(default)]
    name: String,
    plugins: Option<Vec<PluginConfiguration>>,
    #[serde(default, deserialize_with = "truth")]
    disable_check: bool,
    #[serde(default, deserialize_with = "truth", rename = "disableGC")]
    disable_gc: bool,
}

/// A truth, which many write as a text.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(truth) => Ok(truth),
        Value::String(text) => text.parse().map_err(D::Error::custom),
        other => Err(D::Error::custom(format!(
            "{other} is neither true nor false"
        ))),
    }
}

/// The first configuration of a folder, by name; those that cannot be used are told about and passed over.
pub(crate) fn first_of(folder: &Path) -> Result<Network, Error> {
    let mut fault = None;
    for path in candidates(folder) {
        match read(&path) {
            Ok(network) => return Ok(network),
            Err(error) => {
                tracing::warn!(%error, "a network configuration is passed over");
                fault.get_or_insert(error);
            }
        }
    }
    Err(fault.unwrap_or_else(|| Error::NoConfiguration(folder.to_owned())))
}

fn candidates(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path.extension().and_then(|end| end.to_str());
            matches!(extension, Some("conf" | "conflist" | "json"))
        })
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Result<Network, Error> {
    let wrong = |why: String| Error::Configuration {
        path: path.to_owned(),
        why,
    };
    let text = trusted::read(path, BYTES_MAX).map_err(wrong)?;
    let written: Written =
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let plugins = match written.plugins {
        Some(plugins) => plugins,
        // A file of one plugin is that plugin's part.
        None => vec![serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?],
    };
    if plugins.is_empty() || plugins.len() > PLUGINS_MAX {
        return Err(wrong(format!(
            "it has {} plugins; 1 to {PLUGINS_MAX} may be there",
            plugins.len()
        )));
    }
    if let Some(plugin) = plugins.iter().find(|plugin| !is_program_name(&plugin.kind)) {
        return Err(wrong(format!("{:?} is no name of a plugin", plugin.kind)));
    }
    if !is_network_name(&written.name) {
        return Err(wrong(format!(
            "name {:?} must begin with a letter or digit and have only those, _, . and -",
            written.name
        )));
    }
    let said = written.cni_versions.iter().chain([&written.cni_version]);
    let said: Vec<&str> = said.map(String::as_str).collect();
    let version = VERSIONS.iter().find(|version| said.contains(version));
    let version = version.ok_or_else(|| {
        let supported = VERSIONS.join(", ");
        wrong(format!(
            "cniVersion {:?} is not supported; {supported} are",
            written.cni_version
        ))
    })?;
    Ok(Network {
        name: written.name,
        version: (*version).to_owned(),
        plugins,
        disabled: Disabled {
            check: written.disable_check,
            gc: written.disable_gc,
        },
    })
}

/// A plain file name, so that no plugin lies outside of its folder.
fn is_program_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && !matches!(name, "." | "..")
}

/// The rule of the specification.
fn is_network_name(name: &str) -> bool {
    let mut characters = name.bytes();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && characters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}
