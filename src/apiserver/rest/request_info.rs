//! What a request is about, read from its method and path once and used by everybody after.

use crate::query::{Plus, Query, decode};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// The method means nothing for resources (`OPTIONS`).
    None,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::None => "",
        }
    }

    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// A request in the words of the API.
#[derive(Clone, Debug)]
pub(crate) struct RequestInfo {
    pub(crate) method: http::Method,
    /// As it stands in the URL.
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) about: About,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Resource(ResourcePath),
    /// Health, discovery and whatever else is no object.
    Path,
}

/// The path of an object or a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) verb: Option<Verb>,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// Segments after the subresource, as they stand in the URL: what a proxied request asks for.
    pub(crate) rest: String,
}

impl ResourcePath {
    pub(crate) fn verb(&self) -> Verb {
        self.verb.unwrap_or(Verb::None)
    }
}

impl RequestInfo {
    pub(crate) fn parse(method: &http::Method, path_and_query: &str) -> Self {
        let (path, query) = path_and_query
            .split_once('?')
            .unwrap_or((path_and_query, ""));
        let query = Query::parse(query);
        let about = resource_path(method, path, &query).map_or(About::Path, About::Resource);
        Self {
            method: method.clone(),
            path: path.to_owned(),
            query,
            about,
        }
    }

    pub(crate) fn resource(&self) -> Option<&ResourcePath> {
        match &self.about {
            About::Resource(path) => Some(path),
            About::Path => None,
        }
    }

    /// Watches and streams: they have no time limit and do not count as in flight.
    pub(crate) fn is_long_running(&self) -> bool {
        self.resource().is_some_and(|path| {
            path.verb() == Verb::Watch
                || matches!(
                    path.subresource.as_str(),
                    "attach" | "exec" | "proxy" | "portforward"
                )
                || (path.subresource == "log")
        })
    }
}

fn resource_path(method: &http::Method, path: &str, query: &Query) -> Option<ResourcePath> {
    let mut segments = path.trim_start_matches('/').split('/').collect::<Vec<_>>();
    if segments.last() == Some(&"") {
        segments.pop();
    }
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return None,
    };
    let mut info = ResourcePath {
        group: decode(group, Plus::IsPlus),
        version: decode(version, Plus::IsPlus),
        ..ResourcePath::default()
    };
    let (rest, legacy_watch) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (rest, true),
        rest => (rest, false),
    };
    place(rest, &mut info);
    info.verb = Some(if legacy_watch {
        Verb::Watch
    } else {
        verb(method, &info)
    });
    refine(&mut info, query);
    Some(info)
}

/// Reads namespace, resource, name and subresource from the segments after the version.
fn place(segments: &[&str], info: &mut ResourcePath) {
    let rest = match segments {
        // `namespaces/x/status` and `namespaces/x/finalize` are about the namespace itself.
        ["namespaces", namespace, tail @ ..] => {
            info.namespace = decode(namespace, Plus::IsPlus);
            match tail {
                [] | ["status" | "finalize", ..] => segments,
                tail => tail,
            }
        }
        all => all,
    };
    if let Some((resource, rest)) = rest.split_first() {
        info.resource = decode(resource, Plus::IsPlus);
        if let Some((name, rest)) = rest.split_first() {
            info.name = decode(name, Plus::IsPlus);
            if let Some((subresource, rest)) = rest.split_first() {
                info.subresource = decode(subresource, Plus::IsPlus);
                info.rest = rest.join("/");
            }
        }
    }
}

fn verb(method: &http::Method, info: &ResourcePath) -> Verb {
    match method.as_str() {
        "GET" | "HEAD" if info.name.is_empty() => Verb::List,
        "GET" | "HEAD" => Verb::Get,
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" if info.name.is_empty() => Verb::DeleteCollection,
        "DELETE" => Verb::Delete,
        _ => Verb::None,
    }
}

/// A list that is watched is a watch; a list of one name is allowed to whoever may see that name.
fn refine(info: &mut ResourcePath, query: &Query) {
    if !matches!(
        info.verb,
        Some(Verb::List | Verb::Watch | Verb::DeleteCollection)
    ) {
        return;
    }
    if info.verb == Some(Verb::List) && query.flag("watch") {
        info.verb = Some(Verb::Watch);
    }
    let selector = query
        .text("fieldSelector")
        .and_then(|text| apimachinery::FieldSelector::parse(text).ok());
    if let Some(name) = selector
        .as_ref()
        .and_then(|selector| selector.exact("metadata.name"))
        && apimachinery::path_segment_error(name).is_none()
    {
        name.clone_into(&mut info.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: http::Method, path: &str) -> ResourcePath {
        RequestInfo::parse(&method, path)
            .resource()
            .expect("a resource")
            .clone()
    }

    #[test]
    fn a_path_names_namespace_resource_name_and_subresource() {
        let info = parse(
            http::Method::POST,
            "/apis/apps/v1/namespaces/a/deployments/b/scale/",
        );
        let ResourcePath {
            group,
            version,
            namespace,
            resource,
            name,
            subresource,
            ..
        } = &info;
        let all = [group, version, namespace, resource, name, subresource];
        assert_eq!(all, ["apps", "v1", "a", "deployments", "b", "scale"]);
    }

    #[test]
    fn a_namespace_is_its_own_namespace() {
        let info = parse(http::Method::PUT, "/api/v1/namespaces/a/finalize");
        assert_eq!(
            (
                info.resource.as_str(),
                info.name.as_str(),
                info.namespace.as_str()
            ),
            ("namespaces", "a", "a")
        );
        assert_eq!(info.subresource, "finalize");
    }

    #[test]
    fn watching_is_told_by_the_query_or_the_old_path() {
        assert_eq!(
            parse(http::Method::GET, "/api/v1/pods?watch=1").verb(),
            Verb::Watch
        );
        assert_eq!(
            parse(http::Method::GET, "/api/v1/watch/namespaces/a/pods").verb(),
            Verb::Watch
        );
        let one = parse(
            http::Method::GET,
            "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db",
        );
        assert_eq!((one.verb(), one.name.as_str()), (Verb::List, "b"));
    }

    #[test]
    fn discovery_is_no_resource() {
        for path in ["/api", "/api/v1", "/apis/apps/v1", "/version", "/"] {
            assert!(
                RequestInfo::parse(&http::Method::GET, path)
                    .resource()
                    .is_none(),
                "{path}"
            );
        }
    }
}
