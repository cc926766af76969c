//! The text of `registries.yaml`: what would otherwise be found at the first pull is said when it is read.

use std::collections::BTreeMap;

use regex::Regex;
use yaml::{Part, Wrong};

use super::{Auth, Mirror, Registries, RegistryConfig, Tls, parse_endpoint};
use crate::error::{Error, Result};

/// Reads a file, which errors call `name`.
pub(super) fn parse(name: &str, text: &str) -> Result<Registries> {
    match yaml::parse(text) {
        Ok(Some(tree)) => read(&Part::of(&tree))
            .map_err(|wrong| Error::invalid(format!("{name}, {}", wrong.place()), wrong.why)),
        Ok(None) => Ok(Registries::default()),
        Err(error) => Err(Error::invalid(name, error.to_string())),
    }
}

type Read<T> = std::result::Result<T, Wrong>;

fn read(part: &Part<'_>) -> Read<Registries> {
    let mut file = Registries::default();
    for (key, part) in part.entries()? {
        match key {
            "mirrors" => file.mirrors = each(&part, Mirror::read)?,
            "configs" => file.configs = each(&part, RegistryConfig::read)?,
            "auths" => file.auths = each(&part, Auth::read)?,
            _ => return Err(part.unknown(&["mirrors", "configs", "auths"])),
        }
    }
    Ok(file)
}

fn each<T>(part: &Part<'_>, read: fn(&Part<'_>) -> Read<T>) -> Read<BTreeMap<String, T>> {
    let entries = part.entries()?.into_iter();
    entries
        .map(|(name, part)| Ok((name.to_owned(), read(&part)?)))
        .collect()
}

impl Mirror {
    fn read(part: &Part<'_>) -> Read<Self> {
        let mut mirror = Self::default();
        for (key, part) in part.entries()? {
            match key {
                "endpoint" => mirror.endpoints = endpoints(&part)?,
                "rewrite" => mirror.rewrite = rewrite(&part)?,
                _ => return Err(part.unknown(&["endpoint", "rewrite"])),
            }
        }
        Ok(mirror)
    }
}

fn endpoints(part: &Part<'_>) -> Read<Vec<String>> {
    let items = part.items()?.into_iter();
    let endpoints = items.map(|item| {
        let text = item.text()?;
        match parse_endpoint(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(why) => Err(item.wrong(why).about(text)),
        }
    });
    endpoints.collect()
}

fn rewrite(part: &Part<'_>) -> Read<BTreeMap<String, String>> {
    let mut rewrite = BTreeMap::new();
    for (pattern, replacement) in part.entries()? {
        Regex::new(pattern).map_err(|error| replacement.wrong(error.to_string()))?;
        rewrite.insert(pattern.to_owned(), replacement.text()?.to_owned());
    }
    Ok(rewrite)
}

impl RegistryConfig {
    fn read(part: &Part<'_>) -> Read<Self> {
        let mut config = Self::default();
        for (key, part) in part.entries()? {
            match key {
                "auth" if part.is_empty() => {}
                "auth" => config.auth = Some(Auth::read(&part)?),
                "tls" if part.is_empty() => {}
                "tls" => config.tls = Some(Tls::read(&part)?),
                _ => return Err(part.unknown(&["auth", "tls"])),
            }
        }
        Ok(config)
    }
}

impl Tls {
    fn read(part: &Part<'_>) -> Read<Self> {
        let mut tls = Self::default();
        for (key, value) in part.entries()? {
            match key {
                "ca_file" => tls.ca_file = value.text()?.to_owned(),
                "insecure_skip_verify" => tls.insecure_skip_verify = value.truth()?,
                "cert_file" | "key_file" => {
                    if !value.text()?.is_empty() {
                        return Err(part.wrong("client certificates are not supported"));
                    }
                }
                _ => {
                    let known = ["ca_file", "cert_file", "key_file", "insecure_skip_verify"];
                    return Err(value.unknown(&known));
                }
            }
        }
        Ok(tls)
    }
}

impl Auth {
    fn read(part: &Part<'_>) -> Read<Self> {
        let mut auth = Self::default();
        for (key, part) in part.entries()? {
            let field = match key {
                "username" => &mut auth.username,
                "password" => &mut auth.password,
                "auth" => &mut auth.auth,
                "identity_token" => &mut auth.identity_token,
                "token" => &mut auth.token,
                _ => {
                    let known = ["username", "password", "auth", "identity_token", "token"];
                    return Err(part.unknown(&known));
                }
            };
            part.text()?.clone_into(field);
        }
        Ok(auth)
    }
}
