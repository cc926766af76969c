//! URL paths and queries of the API, with everything that is not plain text escaped.

use std::fmt::Write as _;

use apimachinery::GroupVersionResource;

/// `/api/v1` or `/apis/<group>/<version>`.
pub fn group_version_path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// The path of a collection; `namespace: None` names all namespaces or a cluster-wide resource.
pub fn collection_path(resource: &GroupVersionResource, namespace: Option<&str>) -> String {
    let mut path = group_version_path(&resource.group, &resource.version);
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        path.push_str("/namespaces/");
        escape_into(&mut path, namespace);
    }
    path.push('/');
    path.push_str(&resource.resource);
    path
}

/// The path of one object, or of a subresource of it when `subresource` is not empty.
pub fn object_path(
    resource: &GroupVersionResource,
    namespace: Option<&str>,
    name: &str,
    subresource: &str,
) -> String {
    let mut path = collection_path(resource, namespace);
    path.push('/');
    escape_into(&mut path, name);
    if !subresource.is_empty() {
        path.push('/');
        path.push_str(subresource);
    }
    path
}

/// `path` with one more query parameter; an empty value adds nothing.
#[must_use]
pub fn with_query(mut path: String, name: &str, value: &str) -> String {
    if value.is_empty() {
        return path;
    }
    path.push(if path.contains('?') { '&' } else { '?' });
    path.push_str(name);
    path.push('=');
    escape_into(&mut path, value);
    path
}

/// Percent-encodes what RFC 3986 does not call unreserved, except `:` which names of RBAC objects carry unescaped.
fn escape_into(path: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                path.push(char::from(byte));
            }
            other => write!(path, "%{other:02X}").expect("writing to a string does not fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_group_has_its_own_root_and_names_are_escaped() {
        let pods = GroupVersionResource::new("", "v1", "pods");
        assert_eq!(
            object_path(&pods, Some("a"), "b c", "log"),
            "/api/v1/namespaces/a/pods/b%20c/log"
        );
        let roles = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", "clusterroles");
        assert_eq!(
            object_path(&roles, None, "system:node", ""),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node"
        );
        assert_eq!(
            with_query(
                with_query("/api/v1/pods".into(), "labelSelector", "a=b,c"),
                "limit",
                "5"
            ),
            "/api/v1/pods?labelSelector=a%3Db%2Cc&limit=5"
        );
    }
}
