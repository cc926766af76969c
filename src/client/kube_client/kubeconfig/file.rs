//! The text of a kubeconfig. What has no meaning here, like the preferences of a terminal, is passed over.

use yaml::{Part, Wrong};

use super::{Cluster, Context, Kubeconfig, NamedCluster, NamedContext, NamedUser, User};

/// YAML or JSON.
pub(super) fn read(text: &str) -> Result<Kubeconfig, String> {
    match yaml::parse(text) {
        Ok(Some(tree)) => Kubeconfig::of(&Part::of(&tree)).map_err(|wrong| wrong.to_string()),
        Ok(None) => Ok(Kubeconfig::default()),
        Err(error) => Err(error.to_string()),
    }
}

impl Kubeconfig {
    fn of(part: &Part<'_>) -> Result<Self, Wrong> {
        let mut config = Self::default();
        for (key, part) in part.entries()? {
            match key {
                "clusters" => config.clusters = each(&part, NamedCluster::of)?,
                "users" => config.users = each(&part, NamedUser::of)?,
                "contexts" => config.contexts = each(&part, NamedContext::of)?,
                "current-context" => config.current_context = text(&part)?,
                _ => {}
            }
        }
        Ok(config)
    }
}

impl NamedCluster {
    fn of(part: &Part<'_>) -> Result<Self, Wrong> {
        let mut named = Self::default();
        for (key, part) in part.entries()? {
            match key {
                "name" => named.name = text(&part)?,
                "cluster" => named.cluster = Cluster::of(&part)?,
                _ => {}
            }
        }
        Ok(named)
    }
}

impl Cluster {
    fn of(part: &Part<'_>) -> Result<Self, Wrong> {
        let mut cluster = Self::default();
        for (key, part) in part.entries()? {
            match key {
                "server" => cluster.server = text(&part)?,
                "certificate-authority" => cluster.certificate_authority = text(&part)?,
                "certificate-authority-data" => cluster.certificate_authority_data = text(&part)?,
                "tls-server-name" => cluster.tls_server_name = text(&part)?,
                "insecure-skip-tls-verify" => cluster.insecure_skip_tls_verify = part.truth()?,
                "proxy-url" => cluster.proxy_url = text(&part)?,
                _ => {}
            }
        }
        Ok(cluster)
    }
}

impl NamedUser {
    fn of(part: &Part<'_>) -> Result<Self, Wrong> {
        let mut named = Self::default();
        for (key, part) in part.entries()? {
            match key {
                "name" => named.name = text(&part)?,
                "user" => named.user = User::of(&part)?,
                _ => {}
            }
        }
        Ok(named)
    }
}

impl User {
    fn of(part: &Part<'_>) -> Result<Self, Wrong> {
        let mut user = Self::default();
        for (key, part) in part.entries()? {
            match key {
                _ if part.is_empty() => {}
                "client-certificate" => user.client_certificate = text(&part)?,
                "client-certificate-data" => user.client_certificate_data = text(&part)?,
                "client-key" => user.client_key = text(&part)?,
                "client-key-data" => user.client_key_data = text(&part)?,
                "token" => user.token = text(&part)?,
                "tokenFile" => user.token_file = text(&part)?,
                "username" => user.username = text(&part)?,
                "exec" => user.unsupported = Some("an exec credential plugin"),
                "auth-provider" => user.unsupported = Some("an auth provider"),
                _ => {}
            }
        }
        Ok(user)
    }
}

impl NamedContext {
    fn of(part: &Part<'_>) -> Result<Self, Wrong> {
        let mut named = Self::default();
        for (key, part) in part.entries()? {
            match key {
                "name" => named.name = text(&part)?,
                "context" => named.context = Context::of(&part)?,
                _ => {}
            }
        }
        Ok(named)
    }
}

impl Context {
    fn of(part: &Part<'_>) -> Result<Self, Wrong> {
        let mut context = Self::default();
        for (key, part) in part.entries()? {
            match key {
                "cluster" => context.cluster = text(&part)?,
                "user" => context.user = text(&part)?,
                "namespace" => context.namespace = text(&part)?,
                _ => {}
            }
        }
        Ok(context)
    }
}

fn each<T>(part: &Part<'_>, of: fn(&Part<'_>) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    part.items()?.iter().map(of).collect()
}

fn text(part: &Part<'_>) -> Result<String, Wrong> {
    Ok(part.text()?.to_owned())
}
