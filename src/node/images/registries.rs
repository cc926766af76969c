//! `registries.yaml`, the file of k3s: which endpoints serve a registry, under which names, with which credentials and certificates.
//!
//! Parsing and applying are pure: the result is the list of endpoints to try, in order.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

use crate::error::{Error, Result};
use crate::reference::Reference;

mod file;

/// The file itself; a missing file is the default.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, RegistryConfig>,
    /// k3s' older place of credentials.
    auths: BTreeMap<String, Auth>,
}

#[derive(Debug, Clone, Default)]
struct Mirror {
    endpoints: Vec<String>,
    /// Regular expression on the repository to its replacement.
    rewrite: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
struct RegistryConfig {
    auth: Option<Auth>,
    tls: Option<Tls>,
}

#[derive(Clone, Default)]
struct Auth {
    username: String,
    password: String,
    /// `username:password` in base64.
    auth: String,
    identity_token: String,
    /// A bearer token for the registry.
    token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Auth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// TLS of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) ca_file: String,
    pub(crate) insecure_skip_verify: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultEndpoint {
    /// After its mirrors, a registry itself is tried.
    Used,
    /// `--disable-default-registry-endpoint`: not if it has mirrors.
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// One place to pull an image from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    /// Host and port.
    pub(crate) host: String,
    /// The repository as this endpoint knows it.
    pub(crate) repository: String,
    /// Not the registry that the image names.
    pub(crate) mirror: bool,
    pub(crate) auth: Option<cri::PullAuth>,
    pub(crate) tls: Tls,
}

impl Registries {
    pub fn parse(text: &str) -> Result<Self> {
        file::parse("registries.yaml", text)
    }

    /// Reads the file; a missing one is the default.
    pub fn load(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => file::parse(&path.display().to_string(), &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// Whether the file names this registry among its mirrors, perhaps without any endpoint: then other nodes may have its images too.
    pub(crate) fn has_mirrors(&self, registry: &str) -> bool {
        self.mirrors.contains_key(registry) || self.mirrors.contains_key("*")
    }

    /// Where to look for an image, in order: its mirrors, then the registry itself.
    pub(crate) fn endpoints(
        &self,
        image: &Reference,
        default: DefaultEndpoint,
    ) -> Result<Vec<Endpoint>> {
        let mirror = self
            .mirrors
            .get(image.registry())
            .or_else(|| self.mirrors.get("*"));
        let mut endpoints = Vec::new();
        for text in mirror.iter().flat_map(|mirror| &mirror.endpoints) {
            let (scheme, host, prefix) =
                parse_endpoint(text).map_err(|reason| Error::invalid("registries.yaml", reason))?;
            let repository = format!("{prefix}{}", rewritten(mirror, image.repository())?);
            endpoints.push(self.endpoint(scheme, host, repository, true)?);
        }
        if endpoints.is_empty() || default == DefaultEndpoint::Used {
            let host = image.registry();
            let tls_configured = self.config(host).is_some_and(|config| config.tls.is_some());
            let scheme = if is_loopback(host) && !tls_configured {
                Scheme::Http
            } else {
                Scheme::Https
            };
            endpoints.push(self.endpoint(
                scheme,
                host.to_owned(),
                image.repository().to_owned(),
                false,
            )?);
        }
        Ok(endpoints)
    }

    fn endpoint(
        &self,
        scheme: Scheme,
        host: String,
        repository: String,
        mirror: bool,
    ) -> Result<Endpoint> {
        let config = self.config(&host);
        let auth = config
            .and_then(|config| config.auth.as_ref())
            .or_else(|| self.auths.get(&host));
        let auth = auth.map(|auth| auth.in_cri_words(&host)).transpose()?;
        let tls = config
            .and_then(|config| config.tls.as_ref())
            .cloned()
            .unwrap_or_default();
        Ok(Endpoint {
            scheme,
            host,
            repository,
            mirror,
            auth,
            tls,
        })
    }

    fn config(&self, host: &str) -> Option<&RegistryConfig> {
        let docker = || {
            (host == "docker.io")
                .then(|| self.configs.get("registry-1.docker.io"))
                .flatten()
        };
        self.configs
            .get(host)
            .or_else(docker)
            .or_else(|| self.configs.get("*"))
    }
}

impl Auth {
    fn in_cri_words(&self, host: &str) -> Result<cri::PullAuth> {
        let mut auth = cri::PullAuth {
            username: self.username.clone(),
            password: self.password.clone(),
            identity_token: self.identity_token.clone(),
            registry_token: self.token.clone(),
        };
        if !self.auth.is_empty() && auth.username.is_empty() {
            (auth.username, auth.password) = decode_auth(&self.auth).ok_or_else(|| {
                Error::invalid(
                    format!("registries.yaml: auth of {host}"),
                    "is not base64 of user:password",
                )
            })?;
        }
        Ok(auth)
    }
}

fn decode_auth(auth: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(auth.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((
        username.to_owned(),
        password.trim_end_matches('\0').to_owned(),
    ))
}

/// The first expression that matches replaces, as in k3s; only mirrors are asked for the new name.
fn rewritten(mirror: Option<&Mirror>, repository: &str) -> Result<String> {
    for (pattern, replacement) in mirror.iter().flat_map(|mirror| &mirror.rewrite) {
        let expression = Regex::new(pattern)
            .map_err(|error| Error::invalid("registries.yaml: rewrite", error.to_string()))?;
        if expression.is_match(repository) {
            return Ok(expression
                .replace_all(repository, replacement.as_str())
                .into_owned());
        }
    }
    Ok(repository.to_owned())
}

/// Scheme, host with port, and what the path puts before every repository.
fn parse_endpoint(text: &str) -> std::result::Result<(Scheme, String, String), &'static str> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Some(Scheme::Http), rest),
        Some(("https", rest)) => (Some(Scheme::Https), rest),
        Some(_) => return Err("the scheme must be http or https"),
        None => (None, text),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || host.contains(['@', '?', '#']) {
        return Err("it names no host");
    }
    let scheme = scheme.unwrap_or(if is_loopback(host) {
        Scheme::Http
    } else {
        Scheme::Https
    });
    let path = path.trim_end_matches('/');
    let prefix = match path.strip_prefix("v2") {
        _ if path.is_empty() => String::new(),
        Some("") => String::new(),
        Some(below) if below.starts_with('/') => format!("{}/", below.trim_start_matches('/')),
        _ => return Err("a path must begin with /v2"),
    };
    Ok((scheme, host.to_owned(), prefix))
}

/// A registry on this machine speaks plain HTTP, as every other runtime assumes.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
mirrors:
  docker.io:
    endpoint: ["https://mirror.example:5000/v2/hub", "http://10.0.0.1"]
    rewrite:
      "^library/(.*)": "official/$1"
  "*":
    endpoint: ["cache.example"]
  plain.example:
configs:
  "mirror.example:5000":
    auth: {username: u, password: p}
    tls: {insecure_skip_verify: true}
  10.0.0.1:
    auth: {auth: dTpw}
"#;

    fn endpoints(image: &str, default: DefaultEndpoint) -> Vec<Endpoint> {
        Registries::parse(FILE)
            .unwrap()
            .endpoints(&Reference::parse(image).unwrap(), default)
            .unwrap()
    }

    #[test]
    fn mirrors_come_first_with_their_names_and_credentials() {
        let found = endpoints("nginx", DefaultEndpoint::Used);
        let names: Vec<(&str, &str, Scheme)> = found
            .iter()
            .map(|end| (end.host.as_str(), end.repository.as_str(), end.scheme))
            .collect();
        assert_eq!(
            names,
            [
                ("mirror.example:5000", "hub/official/nginx", Scheme::Https),
                ("10.0.0.1", "official/nginx", Scheme::Http),
                ("docker.io", "library/nginx", Scheme::Https),
            ]
        );
        assert_eq!(found[0].auth.as_ref().unwrap().username, "u");
        assert!(found[0].tls.insecure_skip_verify);
        assert_eq!(found[1].auth.as_ref().unwrap().password, "p");
        assert!(found[2].auth.is_none());
        assert_eq!(endpoints("nginx", DefaultEndpoint::Disabled).len(), 2);
    }

    #[test]
    fn the_wildcard_serves_every_registry_without_an_entry() {
        assert_eq!(
            endpoints("quay.io/a/b", DefaultEndpoint::Used)[0].host,
            "cache.example"
        );
        assert_eq!(
            endpoints("plain.example/a", DefaultEndpoint::Disabled)[0].host,
            "plain.example"
        );
    }

    #[test]
    fn a_registry_on_this_machine_speaks_http() {
        let found = Registries::default()
            .endpoints(
                &Reference::parse("127.0.0.1:5000/a").unwrap(),
                DefaultEndpoint::Used,
            )
            .unwrap();
        assert_eq!(found[0].scheme, Scheme::Http);
    }

    #[test]
    fn what_cannot_be_done_is_said_when_the_file_is_read() {
        for text in [
            "mirrors: {a: {endpoint: [\"ftp://x\"]}}",
            "mirrors: {a: {endpoint: [\"https://x/prefix\"]}}",
            "mirrors: {a: {endpoint: [\"https://\"]}}",
            "mirrors: {a: {rewrite: {\"(\": b}}}",
            "configs: {a: {tls: {cert_file: /c, key_file: /k}}}",
            "mirror: {}",
        ] {
            assert!(Registries::parse(text).is_err(), "{text}");
        }
        assert!(Registries::parse("\n").is_ok());
        let error = Registries::parse("mirrors:\n  a:\n    endpoint:\n    - good\n    - ftp://x\n");
        let told = error.unwrap_err().to_string();
        assert!(
            told.contains("line 5: mirrors.a.endpoint \"ftp://x\": the scheme"),
            "{told}"
        );
        let error =
            Registries::parse("configs:\n  a: {auth: {password: topsecret}}\n  b: {nope: 1}\n");
        let told = error.unwrap_err().to_string();
        assert!(
            told.contains("line 3: configs.b.nope: unknown field") && !told.contains("topsecret"),
            "{told}"
        );
    }

    #[test]
    fn a_wrong_structure_is_told_with_line_and_key() {
        for (text, place) in [
            ("mirrors: [a]", "line 1: mirrors: "),
            (
                "mirrors:\n  docker.io:\n    endpoint: http://a\n",
                "line 3: mirrors.docker.io.endpoint: ",
            ),
            (
                "mirrors:\n  a:\n    endpoints: [http://a]\n",
                "line 3: mirrors.a.endpoints: unknown field",
            ),
            (
                "mirrors:\n  a:\n    endpoint:\n    - b\n    - {c: d}\n",
                "line 5: mirrors.a.endpoint",
            ),
            (
                "configs:\n  a:\n  b:\n    tls: {ca_file: x, insecure_skip_verify: maybe}\n",
                "line 4: configs.b.tls.insecure_skip_verify: ",
            ),
            ("mirror: {}\n", "line 1: mirror: unknown field"),
            ("mirrors: {\n", "line 1"),
            ("- mirrors\n", "line 1: a map is meant"),
            (
                "mirrors: {a: }\nmirrors:\n",
                "line 2: mirrors: it is said twice",
            ),
        ] {
            let told = Registries::parse(text).unwrap_err().to_string();
            assert!(told.starts_with("registries.yaml"), "{told}");
            assert!(told.contains(place), "{text}: {told}");
        }
    }
}
