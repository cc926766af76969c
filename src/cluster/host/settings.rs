//! The settings of a service that its host must know when it does not run: from its arguments, its
//! file of variables, and its configuration file, the first that says something.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use config::{DEFAULT_CONFIG_FILE, DEFAULT_DATA_DIR, DEFAULT_KUBECONFIG};

use crate::installation::{Installation, Role};

const HTTPS_PORT: u16 = 6443;
const KUBELET_PORT: u16 = 10250;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    pub data_dir: PathBuf,
    pub kubeconfig: PathBuf,
    pub https_port: u16,
    pub kubelet_port: u16,
    pub node_name: String,
}

impl ServiceSettings {
    pub fn of(installation: &Installation) -> Self {
        let environment = fs::read_to_string(&installation.environment).unwrap_or_default();
        Self::said(&installation.arguments, &variables(&environment))
    }

    /// What a service with these arguments and variables will do.
    pub fn said(arguments: &[String], environment: &BTreeMap<String, String>) -> Self {
        let said = Said::with_files(arguments, environment);
        let port = |name: &str, variable: &str, default: u16| {
            let text = said.find(name, None, variable);
            text.and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let path = |text: Option<String>, default: &str| {
            let path = text.map_or_else(|| PathBuf::from(default), PathBuf::from);
            std::path::absolute(&path).unwrap_or(path)
        };
        Self {
            data_dir: path(
                said.find("data-dir", Some('d'), "COMBO_DATA_DIR"),
                DEFAULT_DATA_DIR,
            ),
            kubeconfig: path(
                said.find("write-kubeconfig", Some('o'), "COMBO_KUBECONFIG_OUTPUT"),
                DEFAULT_KUBECONFIG,
            ),
            https_port: port("https-listen-port", "COMBO_HTTPS_LISTEN_PORT", HTTPS_PORT),
            kubelet_port: port("kubelet-port", "COMBO_KUBELET_PORT", KUBELET_PORT),
            node_name: said
                .find("node-name", None, "COMBO_NODE_NAME")
                .unwrap_or_else(|| linux::system::host_name().to_lowercase()),
        }
    }

    /// The TCP ports that a role listens on.
    pub fn ports(&self, role: Role) -> Vec<u16> {
        match role {
            Role::Server => vec![self.https_port, self.kubelet_port],
            Role::Agent => vec![self.kubelet_port],
        }
    }
}

/// What a server says of the snapshots that it takes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// `None`: below the data folder.
    pub folder: Option<PathBuf>,
    pub cron: Option<String>,
    pub keep: Option<String>,
    pub are_disabled: bool,
}

impl SnapshotSettings {
    /// What a server with these arguments and variables will do.
    pub fn said(arguments: &[String], environment: &BTreeMap<String, String>) -> Self {
        let said = Said::with_files(arguments, environment);
        let find = |name: &str| {
            let variable = format!("COMBO_{}", name.replace('-', "_").to_uppercase());
            said.find(name, None, &variable)
        };
        let is_true = |text: String| {
            let text = text.to_ascii_lowercase();
            ["true", "yes", "on", "1"].contains(&text.as_str())
        };
        let disable = "etcd-disable-snapshots";
        let is_argument = arguments.iter().any(|word| *word == format!("--{disable}"));
        Self {
            folder: find("etcd-snapshot-dir").map(PathBuf::from),
            cron: find("etcd-snapshot-schedule-cron"),
            keep: find("etcd-snapshot-retention"),
            are_disabled: is_argument || find(disable).is_some_and(is_true),
        }
    }
}

/// What the configuration file of a server with these variables says.
pub fn values_in_files(environment: &BTreeMap<String, String>) -> BTreeMap<String, Vec<String>> {
    Said::with_files(&[], environment).files
}

struct Said<'a> {
    arguments: &'a [String],
    environment: &'a BTreeMap<String, String>,
    files: BTreeMap<String, Vec<String>>,
}

impl<'a> Said<'a> {
    fn with_files(arguments: &'a [String], environment: &'a BTreeMap<String, String>) -> Self {
        let mut said = Self {
            arguments,
            environment,
            files: BTreeMap::new(),
        };
        let config = said.find("config", Some('c'), "COMBO_CONFIG_FILE");
        let file = config.as_deref().unwrap_or(DEFAULT_CONFIG_FILE);
        said.files = config::readable_values(Path::new(file));
        said
    }

    fn find(&self, name: &str, short: Option<char>, variable: &str) -> Option<String> {
        self.argument(name, short)
            .or_else(|| self.environment.get(variable).cloned())
            .or_else(|| match self.files.get(name)?.as_slice() {
                [value] => Some(value.clone()),
                _ => None,
            })
    }

    fn argument(&self, name: &str, short: Option<char>) -> Option<String> {
        let long = format!("--{name}");
        let short = short.map(|letter| format!("-{letter}"));
        let mut words = self.arguments.iter();
        while let Some(word) = words.next() {
            if *word == long || Some(word) == short.as_ref() {
                return words.next().cloned();
            }
            let joined = word
                .strip_prefix(&long)
                .and_then(|rest| rest.strip_prefix('='));
            if let Some(value) = joined {
                return Some(value.to_owned());
            }
        }
        None
    }
}

/// The assignments of a file that systemd and shells read alike.
pub fn variables(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), unquoted(value)))
        .collect()
}

fn unquoted(value: &str) -> String {
    let inside = |quote| {
        value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
    };
    if let Some(text) = inside('\'') {
        return text.to_owned();
    }
    let Some(text) = inside('"') else {
        return value.to_owned();
    };
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.extend(if letter == '\\' {
            letters.next()
        } else {
            Some(letter)
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_a_shell_reads_them() {
        let read = variables("A=1\nB=\"a \\\"b\\\\ \\$c\"\nC='x y'\n#D=1\n");
        let expected = [("A", "1"), ("B", "a \"b\\ $c"), ("C", "x y")];
        assert_eq!(
            read,
            expected
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        );
    }

    #[test]
    fn arguments_win_over_variables_and_those_over_files() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yaml");
        fs::create_dir(folder.path().join("config.yaml.d")).unwrap();
        fs::write(&config, "kubelet-port: 1\nnode-name: a\n").unwrap();
        fs::write(folder.path().join("config.yaml.d/1.yaml"), "node-name: b\n").unwrap();
        let words = ["server", "-d", "/data", "--https-listen-port=7443", "-c"];
        let mut arguments = words.map(str::to_owned).to_vec();
        arguments.push(config.display().to_string());
        let environment =
            variables("# text\nCOMBO_DATA_DIR=/other\nCOMBO_KUBECONFIG_OUTPUT='/k y'\n");
        let settings = ServiceSettings::said(&arguments, &environment);
        let expected = ServiceSettings {
            data_dir: "/data".into(),
            kubeconfig: "/k y".into(),
            https_port: 7443,
            kubelet_port: 1,
            node_name: "b".to_owned(),
        };
        assert_eq!(settings, expected);
        assert_eq!(settings.ports(Role::Agent), [1]);
    }

    #[test]
    fn a_server_s_snapshots_are_told_by_files_and_variables() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yaml");
        fs::write(
            &config,
            "etcd-disable-snapshots: true\netcd-snapshot-retention: 3\n",
        )
        .unwrap();
        let arguments = ["--config".to_owned(), config.display().to_string()];
        let environment = variables("COMBO_ETCD_SNAPSHOT_DIR=/snapshots\n");
        let expected = SnapshotSettings {
            folder: Some("/snapshots".into()),
            cron: None,
            keep: Some("3".to_owned()),
            are_disabled: true,
        };
        assert_eq!(SnapshotSettings::said(&arguments, &environment), expected);
    }
}
