//! Kubeconfig files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::Identity;

/// A kubeconfig for `identity` at `server` (`https://127.0.0.1:6443`), as JSON, which is YAML too.
pub fn kubeconfig(server: &str, authority_pem: &str, identity: &Identity) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(authority_pem)}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
        "preferences": {},
        "users": [{"name": "default", "user": {
            "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
            "client-key-data": STANDARD.encode(identity.key.to_pem())}}],
    });
    format!("{config:#}\n")
}
