//! What is wrong with what was said: where, what, and what to do.

use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("{}, line {line}: {key}: {why}", path.display())]
    Entry {
        path: PathBuf,
        line: u32,
        key: String,
        why: String,
    },
    #[error("--{flag} {value:?} is not valid: {why}")]
    Flag {
        flag: &'static str,
        value: String,
        why: String,
    },
    /// The value is secret.
    #[error("--{flag} is not valid: {why}")]
    SecretFlag { flag: &'static str, why: String },
    /// The value can hold a password.
    #[error("{variable} is not valid: {why}")]
    Variable { variable: String, why: String },
    #[error("--{flag}: {}: {why}", path.display())]
    FlagFile {
        flag: &'static str,
        path: PathBuf,
        why: String,
    },
    #[error("--{flag} is missing: {why}")]
    Missing {
        flag: &'static str,
        why: &'static str,
    },
    #[error("--{flag} does not go with the other flags: {why}")]
    Conflict {
        flag: &'static str,
        why: &'static str,
    },
    #[error("--{flag} is not a flag of this version: {hint}")]
    NotHere { flag: String, hint: &'static str },
}

pub(crate) fn invalid(flag: &'static str, value: impl ToString, why: &str) -> ConfigError {
    ConfigError::Flag {
        flag,
        value: value.to_string(),
        why: why.to_owned(),
    }
}
