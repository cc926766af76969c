//! Reads a kubeconfig: where the server is, whom to trust, who one is. What cannot be done is refused, never skipped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use env::{Clock, FlooredClock, SystemClock, Timestamp};

use crate::{ClientCertificate, ClientError, Credentials, Dialer, HttpConfig, Trust};

mod file;

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the kubeconfig cannot be parsed: {0}")]
    Parse(String),
    #[error("the kubeconfig has no {what} {name:?}")]
    Missing { what: &'static str, name: String },
    #[error("proxy-url of the kubeconfig cannot be used: {0}")]
    Proxy(String),
    #[error("{field} of the kubeconfig is not base64")]
    NotBase64 { field: &'static str },
    #[error("the kubeconfig asks for {0}, which is not supported")]
    Unsupported(&'static str),
    #[error(transparent)]
    Unusable(#[from] ClientError),
}

/// A parsed kubeconfig.
#[derive(Clone, Debug, Default)]
pub struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    contexts: Vec<NamedContext>,
    pub current_context: String,
    /// Relative file names count from here.
    directory: PathBuf,
}

#[derive(Clone, Debug, Default)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Clone, Debug, Default)]
struct Cluster {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
    tls_server_name: String,
    insecure_skip_tls_verify: bool,
    proxy_url: String,
}

#[derive(Clone, Debug, Default)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Clone, Debug, Default)]
struct User {
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    token: String,
    token_file: String,
    username: String,
    /// What it has that is not supported.
    unsupported: Option<&'static str>,
}

#[derive(Clone, Debug, Default)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Clone, Debug, Default)]
struct Context {
    cluster: String,
    user: String,
    namespace: String,
}

impl Kubeconfig {
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let text = read(path)?;
        let text =
            String::from_utf8(text).map_err(|error| KubeconfigError::Parse(error.to_string()))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// Parses YAML or JSON; relative file names in it count from `directory`.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, KubeconfigError> {
        let config = file::read(text).map_err(KubeconfigError::Parse)?;
        Ok(Self {
            directory: directory.to_owned(),
            ..config
        })
    }

    /// The namespace of a context (the current one if `context` is empty); `default` if it names none.
    pub fn namespace(&self, context: &str) -> Result<&str, KubeconfigError> {
        let namespace = self.context(context)?.namespace.as_str();
        Ok(if namespace.is_empty() {
            "default"
        } else {
            namespace
        })
    }

    /// What a transport needs to act in a context (the current one if `context` is empty).
    pub fn http_config(
        &self,
        context: &str,
        user_agent: &str,
    ) -> Result<HttpConfig, KubeconfigError> {
        let context = self.context(context)?;
        let cluster = self
            .clusters
            .iter()
            .find(|cluster| cluster.name == context.cluster)
            .map(|named| &named.cluster)
            .ok_or_else(|| missing("cluster", &context.cluster))?;
        if cluster.insecure_skip_tls_verify {
            return Err(KubeconfigError::Unsupported("insecure-skip-tls-verify"));
        }
        let dialer = match cluster.proxy_url.as_str() {
            "" => Dialer::default(),
            proxy => Dialer::through(proxy, "").map_err(KubeconfigError::Proxy)?,
        };
        let authority = self.data_or_file(
            "certificate-authority-data",
            &cluster.certificate_authority_data,
            &cluster.certificate_authority,
        )?;
        Ok(HttpConfig {
            server: cluster.server.clone(),
            trust: Trust::Authorities(authority.unwrap_or_default()),
            server_name: Some(cluster.tls_server_name.clone()).filter(|name| !name.is_empty()),
            credentials: self.credentials(&context.user)?,
            user_agent: user_agent.to_owned(),
            route: Arc::new(dialer),
            clock: not_before_this_build(),
        })
    }

    fn context(&self, name: &str) -> Result<&Context, KubeconfigError> {
        let name = if name.is_empty() {
            &self.current_context
        } else {
            name
        };
        self.contexts
            .iter()
            .find(|context| context.name == name)
            .map(|named| &named.context)
            .ok_or_else(|| missing("context", name))
    }

    fn credentials(&self, name: &str) -> Result<Credentials, KubeconfigError> {
        if name.is_empty() {
            return Ok(Credentials::Anonymous);
        }
        let named = self
            .users
            .iter()
            .find(|user| user.name == name)
            .ok_or_else(|| missing("user", name))?;
        let user = &named.user;
        if let Some(what) = user.unsupported {
            return Err(KubeconfigError::Unsupported(what));
        }
        if !user.username.is_empty() {
            return Err(KubeconfigError::Unsupported("basic authentication"));
        }
        if !user.token_file.is_empty() {
            let token = read(&self.directory.join(&user.token_file))?;
            return Ok(Credentials::BearerToken(
                String::from_utf8_lossy(&token).trim().to_owned(),
            ));
        }
        if !user.token.is_empty() {
            return Ok(Credentials::BearerToken(user.token.clone()));
        }
        let chain = self.data_or_file(
            "client-certificate-data",
            &user.client_certificate_data,
            &user.client_certificate,
        )?;
        let key = self.data_or_file("client-key-data", &user.client_key_data, &user.client_key)?;
        match (chain, key) {
            (Some(chain), Some(key)) => Ok(Credentials::Certificate(ClientCertificate::from_pem(
                &chain, &key,
            )?)),
            (None, None) => Ok(Credentials::Anonymous),
            (None, Some(_)) => Err(missing("client-certificate of user", name)),
            (Some(_), None) => Err(missing("client-key of user", name)),
        }
    }

    /// Data in the file itself wins over the name of another file, as upstream has it.
    fn data_or_file(
        &self,
        field: &'static str,
        data: &str,
        file: &str,
    ) -> Result<Option<Vec<u8>>, KubeconfigError> {
        if !data.is_empty() {
            let bytes = STANDARD
                .decode(data)
                .map_err(|_error| KubeconfigError::NotBase64 { field })?;
            return Ok(Some(bytes));
        }
        if file.is_empty() {
            return Ok(None);
        }
        read(&self.directory.join(file)).map(Some)
    }
}

fn missing(what: &'static str, name: &str) -> KubeconfigError {
    KubeconfigError::Missing {
        what,
        name: name.to_owned(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KubeconfigError> {
    std::fs::read(path).map_err(|source| KubeconfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The machine's time, for a board whose clock began at 1970: a cluster's certificates have not begun then.
fn not_before_this_build() -> Arc<dyn Clock> {
    let built = Timestamp::of_build();
    Arc::new(FlooredClock::new(SystemClock::shared(), built, || false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
apiVersion: v1
kind: Config
clusters:
- name: here
  cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: aGVsbG8=}
users:
- name: me
  user: {token: secret}
- name: plugin
  user: {exec: {command: x}}
contexts:
- name: a
  context: {cluster: here, user: me, namespace: work}
- name: b
  context: {cluster: here, user: plugin}
current-context: a
";

    #[test]
    fn the_current_context_names_server_roots_and_credentials() {
        let config = Kubeconfig::parse(CONFIG, Path::new("/")).expect("a kubeconfig");
        let http = config.http_config("", "test").expect("usable");
        assert_eq!(http.server, "https://127.0.0.1:6443");
        assert!(matches!(&http.trust, Trust::Authorities(pem) if pem == b"hello"));
        assert!(matches!(&http.credentials, Credentials::BearerToken(token) if token == "secret"));
        assert_eq!(config.namespace("").expect("a context"), "work");
        assert_eq!(config.namespace("b").expect("a context"), "default");
    }

    #[test]
    fn a_wrong_shape_is_told_with_its_line_and_without_its_text() {
        for (text, told) in [
            (
                "users:\n- user: {token: {secret: 1}}\n",
                "line 2: users.user.token: a text is",
            ),
            ("clusters: secret\n", "line 1: clusters: a list is meant"),
            ("a: secret\n b: [\n", "line 2"),
        ] {
            let error = Kubeconfig::parse(text, Path::new("/")).expect_err(text);
            let error = error.to_string();
            assert!(error.contains(told) && !error.contains("secret"), "{error}");
        }
        let empty = "{\"clusters\": null, \"users\": null, \"preferences\": {}}";
        assert!(Kubeconfig::parse(empty, Path::new("/")).is_ok());
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let config = Kubeconfig::parse(CONFIG, Path::new("/")).expect("a kubeconfig");
        assert!(matches!(
            config.http_config("b", "test"),
            Err(KubeconfigError::Unsupported(_))
        ));
        assert!(matches!(
            config.http_config("c", "test"),
            Err(KubeconfigError::Missing { .. })
        ));
    }
}
