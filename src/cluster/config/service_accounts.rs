//! Who issues the tokens of service accounts, and with whose keys.

use std::path::PathBuf;

use crate::error::invalid;
use crate::paths::absolute;
use crate::{ConfigError, ServerFlags};

/// More issuers, or files of keys, than a change of keys ever needs.
const MANY_MAX: usize = 32;

/// The issuers of service account tokens, and the files of an operator's keys for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountConfig {
    pub issuer: String,
    /// Issuers whose tokens are believed beside those of `issuer`.
    pub former_issuers: Vec<String>,
    /// `None`: the key in the data folder signs.
    pub signing_key_file: Option<PathBuf>,
    pub key_files: Vec<PathBuf>,
}

impl ServiceAccountConfig {
    pub(crate) fn from_flags(
        said: &ServerFlags,
        cluster_domain: &str,
    ) -> Result<Self, ConfigError> {
        let files = &said.service_account_key_file;
        for (flag, count) in [
            ("service-account-issuer", said.service_account_issuer.len()),
            ("service-account-key-file", files.len()),
        ] {
            if count > MANY_MAX {
                let why = format!("it is given {count} times; {MANY_MAX} are the most");
                return Err(invalid(flag, "", &why));
            }
        }
        let mut issuers: Vec<String> = Vec::new();
        for issuer in &said.service_account_issuer {
            if let Some(why) = fault(issuer, &issuers) {
                return Err(invalid("service-account-issuer", issuer, why));
            }
            issuers.push(issuer.clone());
        }
        if issuers.is_empty() {
            issuers.push(format!("https://kubernetes.default.svc.{cluster_domain}"));
        }
        Ok(Self {
            issuer: issuers.remove(0),
            former_issuers: issuers,
            signing_key_file: said.service_account_signing_key_file.clone().map(absolute),
            key_files: files.iter().cloned().map(absolute).collect(),
        })
    }
}

/// What is wrong with an issuer beside those before it. With a colon it must be an address (RFC 7519 §2).
fn fault(issuer: &str, before: &[String]) -> Option<&'static str> {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    if issuer.is_empty() {
        return Some("it is empty; say for example https://issuer.example.com");
    }
    if issuer
        .chars()
        .any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return Some("it has a space or a control character in it; leave that out");
    }
    if issuer
        .split_once(':')
        .is_some_and(|(scheme, _)| !is_scheme(scheme))
    {
        return Some(
            "it has a colon and is no address; say for example https://issuer.example.com",
        );
    }
    if before.iter().any(|other| other == issuer) {
        return Some("it is given twice; leave one out");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(issuers: &[&str]) -> Result<ServiceAccountConfig, ConfigError> {
        let said = ServerFlags {
            service_account_issuer: issuers.iter().map(ToString::to_string).collect(),
            ..ServerFlags::default()
        };
        ServiceAccountConfig::from_flags(&said, "edge.local")
    }

    #[test]
    fn the_first_issuer_issues_and_the_others_are_believed() {
        let several = config(&["https://b.example", "a"]).expect("a config");
        assert_eq!(several.issuer, "https://b.example");
        assert_eq!(several.former_issuers, ["a"]);
        let none = config(&[]).expect("a config");
        assert_eq!(none.issuer, "https://kubernetes.default.svc.edge.local");
    }

    #[test]
    fn an_issuer_is_one_word_or_address_and_given_once() {
        for wrong in [&[""][..], &["a b"], &[":x"], &["a", "a"], &["x"; 40]] {
            assert!(config(wrong).is_err(), "{wrong:?}");
        }
    }
}
