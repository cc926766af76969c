//! Where things are if nobody says otherwise.

use std::path::PathBuf;

pub const DEFAULT_CONFIG_FILE: &str = "/etc/combo/config.yaml";
pub const DEFAULT_DATA_DIR: &str = "/var/lib/combo";
pub const DEFAULT_KUBECONFIG: &str = "/etc/combo/combo.yaml";

pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

pub(crate) fn data_dir(said: Option<PathBuf>) -> PathBuf {
    absolute(said.unwrap_or_else(|| DEFAULT_DATA_DIR.into()))
}
