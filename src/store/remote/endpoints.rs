//! Where an etcd cluster is reached: the comma list that users write.

use std::fmt;

/// Members that a list may name.
const ENDPOINTS_MAX: usize = 16;
const PORT: u16 = 2379;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointsError {
    #[error(
        "the datastore endpoint is empty: give the URLs of an etcd cluster, such as https://10.0.0.1:2379,https://10.0.0.2:2379"
    )]
    Empty,
    #[error(
        "the datastore endpoint `{endpoint}` is of {kind}, which only kine speaks: give the http:// or https:// URLs of an etcd cluster, or leave it out to use the built-in store"
    )]
    Kine {
        endpoint: String,
        kind: &'static str,
    },
    #[error(
        "the datastore endpoint `{endpoint}` is no http:// or https:// URL of an etcd member: {why}"
    )]
    Malformed { endpoint: String, why: &'static str },
    #[error(
        "the datastore endpoint mixes http:// and https://: all members of a cluster are reached in the same way"
    )]
    Mixed,
    #[error("the datastore endpoint names {count} members, at most {ENDPOINTS_MAX} are possible")]
    TooMany { count: usize },
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
}

/// The members of a cluster; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    is_tls: bool,
    members: Vec<Endpoint>,
}

impl Endpoints {
    /// Reads a comma list of `http://` or `https://` URLs.
    pub fn parse(text: &str) -> Result<Self, EndpointsError> {
        let urls: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .collect();
        if urls.len() > ENDPOINTS_MAX {
            return Err(EndpointsError::TooMany { count: urls.len() });
        }
        let mut members = Vec::new();
        let mut kinds = Vec::new();
        for url in urls {
            let (is_tls, member) = parse(url)?;
            kinds.push(is_tls);
            if !members.contains(&member) {
                members.push(member);
            }
        }
        let is_tls = *kinds.first().ok_or(EndpointsError::Empty)?;
        if kinds.contains(&!is_tls) {
            return Err(EndpointsError::Mixed);
        }
        Ok(Self { is_tls, members })
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub fn members(&self) -> &[Endpoint] {
        &self.members
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, member) in self.members.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(formatter, "{comma}{}://{member}", self.scheme())?;
        }
        Ok(())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// Whether a URL asks for TLS, and the member it names.
fn parse(url: &str) -> Result<(bool, Endpoint), EndpointsError> {
    if let Some(kind) = kine(url) {
        return Err(EndpointsError::Kine {
            endpoint: shown(url),
            kind,
        });
    }
    let malformed = |why| EndpointsError::Malformed {
        endpoint: shown(url),
        why,
    };
    let uri: http::Uri = url.parse().map_err(|_error| malformed("it is no URL"))?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        Some(_) => return Err(malformed("the scheme is another one")),
        None => return Err(malformed("the scheme is missing")),
    };
    if uri.path() != "/" || uri.query().is_some() {
        return Err(malformed("it has a path"));
    }
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    if authority.contains('@') {
        return Err(malformed(
            "etcd knows its clients by certificates (--datastore-certfile, --datastore-keyfile)",
        ));
    }
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(malformed("it names no host"));
    }
    let member = Endpoint {
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(PORT),
    };
    Ok((is_tls, member))
}

/// The database that a data source name of kine means.
fn kine(url: &str) -> Option<&'static str> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        "mysql" => Some("MySQL"),
        "postgres" | "postgresql" => Some("PostgreSQL"),
        "sqlite" => Some("SQLite"),
        "nats" | "jetstream" => Some("NATS"),
        "dqlite" => Some("dqlite"),
        "memory" => Some("kine's memory"),
        "t4" => Some("t4"),
        _ => None,
    }
}

/// A URL as a message may show it: without the password that it may have.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url
            .rsplit_once('@')
            .map_or(url, |(_, rest)| rest)
            .to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}://…@{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Endpoints::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_list_of_urls_is_read_and_shown_as_it_means() {
        let endpoints =
            Endpoints::parse("https://10.0.0.1:2379, https://[fd00::2]:99,https://etcd,").unwrap();
        assert!(endpoints.is_tls());
        assert_eq!(
            endpoints.to_string(),
            "https://10.0.0.1:2379,https://[fd00::2]:99,https://etcd:2379"
        );
        assert_eq!(
            Endpoints::parse("http://a,http://a:2379")
                .unwrap()
                .members()
                .len(),
            1
        );
    }

    #[test]
    fn what_is_no_etcd_is_refused_by_name_and_without_its_password() {
        let error = refused("mysql://root:secret@tcp(10.0.0.1:3306)/k3s");
        assert!(
            error.contains("MySQL") && !error.contains("secret"),
            "{error}"
        );
        let error = refused("postgres://u:secret@db/k3s");
        assert!(
            error.contains("PostgreSQL") && !error.contains("secret"),
            "{error}"
        );
        let error = refused("https://u:secret@etcd");
        assert!(
            error.contains("certfile") && !error.contains("secret"),
            "{error}"
        );
        assert!(refused("").contains("empty"));
        assert!(refused("10.0.0.1:2379").contains("scheme is missing"));
        assert!(refused("http://a,https://b").contains("mixes"));
        assert!(refused("http://a/v3").contains("path"));
        assert!(refused(&"http://a,".repeat(17)).contains("17 members"));
    }
}
