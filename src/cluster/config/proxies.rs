//! The proxies that the environment names, for what a node fetches from elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use ipnet::IpNet;
use kube_client::Dialer;

use crate::ConfigError;

/// Of these the first counts that is set and not empty.
const HTTPS: &[&str] = &["HTTPS_PROXY", "https_proxy"];
const HTTP: &[&str] = &["HTTP_PROXY", "http_proxy"];
const NO_PROXY: &[&str] = &["NO_PROXY", "no_proxy"];
/// k3s' users name the proxy of image pulls so, where it is another than everybody's.
const IMAGES_PREFIX: &str = "CONTAINERD_";

/// The variables of the environment that name proxies. Its `Debug` shows no value: passwords stand in them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables(BTreeMap<String, String>);

/// How image pulls reach registries.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ImageProxies {
    /// For registries that are reached by https.
    pub https: Option<String>,
    /// For those that are reached by http.
    pub http: Option<String>,
    /// What is reached straight: addresses, ranges and domains with commas between.
    pub no_proxy: String,
}

impl fmt::Debug for ProxyVariables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for ImageProxies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ImageProxies")
            .field("no_proxy", &self.no_proxy)
            .finish_non_exhaustive()
    }
}

impl ProxyVariables {
    pub fn of_this_process() -> Self {
        // What is no UTF-8 names no proxy.
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::among(std::env::vars_os().filter_map(text))
    }

    /// Those among `variables`.
    pub fn among(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_ours = |name: &str| {
            let name = name.strip_prefix(IMAGES_PREFIX).unwrap_or(name);
            [HTTPS, HTTP, NO_PROXY]
                .iter()
                .any(|all| all.contains(&name))
        };
        let ours = variables
            .into_iter()
            .filter(|(name, value)| is_ours(name) && !value.is_empty());
        Self(ours.collect())
    }

    fn get(&self, prefix: &str, names: &'static [&'static str]) -> Option<(String, &str)> {
        names.iter().find_map(|name| {
            let name = format!("{prefix}{name}");
            let value = self.0.get(&name)?;
            Some((name, value.as_str()))
        })
    }

    /// How servers are reached by who may use a proxy for that.
    pub(crate) fn dialer(&self) -> Result<Dialer, ConfigError> {
        let Some((variable, proxy)) = self.get("", HTTPS) else {
            return Ok(Dialer::default());
        };
        let no_proxy = self.get("", NO_PROXY).map_or("", |(_, value)| value);
        Dialer::through(proxy, no_proxy).map_err(|why| ConfigError::Variable { variable, why })
    }

    pub(crate) fn of_images(&self) -> Result<ImageProxies, ConfigError> {
        let first = |names| {
            let special = self.get(IMAGES_PREFIX, names);
            special.or_else(|| self.get("", names))
        };
        let proxy = |names| {
            let Some((variable, proxy)) = first(names) else {
                return Ok(None);
            };
            // The same forms as for servers, and the same words for what is wrong.
            let checked = Dialer::through(proxy, "");
            checked.map_err(|why| ConfigError::Variable { variable, why })?;
            Ok(Some(proxy.to_owned()))
        };
        Ok(ImageProxies {
            https: proxy(HTTPS)?,
            http: proxy(HTTP)?,
            no_proxy: first(NO_PROXY).map_or_else(String::new, |(_, value)| value.to_owned()),
        })
    }
}

impl ImageProxies {
    /// The same, but what is in the cluster is reached straight.
    #[must_use]
    pub fn straight_to(mut self, ranges: &[IpNet], domain: &str) -> Self {
        let ranges = ranges.iter().map(ToString::to_string);
        let inside = ["localhost", "127.0.0.0/8", "::1", ".svc"].map(str::to_owned);
        let own = Some(self.no_proxy).filter(|said| !said.is_empty());
        let all = own.into_iter().chain(inside).chain([format!(".{domain}")]);
        self.no_proxy = all.chain(ranges).collect::<Vec<_>>().join(",");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(said: &[(&str, &str)]) -> ProxyVariables {
        let said = said
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ProxyVariables::among(said)
    }

    #[test]
    fn images_have_a_proxy_of_their_own_where_one_is_named() {
        let all = [
            ("HTTPS_PROXY", "http://a:1"),
            ("http_proxy", "b:1"),
            ("NO_PROXY", "one"),
            ("PATH", "/bin"),
        ];
        let images = variables(&all).of_images().expect("proxies");
        assert_eq!(images.https.as_deref(), Some("http://a:1"));
        assert_eq!(images.http.as_deref(), Some("b:1"));
        let special = [
            ("CONTAINERD_HTTPS_PROXY", "c:1"),
            ("CONTAINERD_NO_PROXY", "two"),
        ];
        let both = variables(&[&all[..], &special[..]].concat());
        let images = both.of_images().expect("proxies");
        assert_eq!(images.https.as_deref(), Some("c:1"));
        let inside =
            images.straight_to(&["10.42.0.0/16".parse().expect("a range")], "cluster.local");
        assert_eq!(
            inside.no_proxy,
            "two,localhost,127.0.0.0/8,::1,.svc,.cluster.local,10.42.0.0/16"
        );
        let dialer = format!("{:?}", both.dialer().expect("a dialer"));
        assert_eq!(dialer, "Dialer(through a:1)");
        assert_eq!(
            variables(&[("HTTPS_PROXY", "")]).dialer(),
            Ok(Dialer::default())
        );
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_told_with_its_variable_and_without_its_password() {
        for (name, value) in [
            ("HTTPS_PROXY", "socks5://u:secret@a:1"),
            ("https_proxy", "https://u:secret@a:1"),
            ("HTTPS_PROXY", "http://u:secret@"),
            ("HTTPS_PROXY", "http://u:secret@ a"),
        ] {
            let all = variables(&[(name, value)]);
            for error in [all.dialer().err(), all.of_images().err()] {
                let told = error.expect(value).to_string();
                assert!(told.starts_with(name) && !told.contains("secret"), "{told}");
            }
            assert!(!format!("{all:?}").contains("secret"));
        }
    }
}
