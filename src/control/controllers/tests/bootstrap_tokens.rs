//! Bootstrap tokens against an API in memory.

mod support;

use std::time::Duration;

use env::SystemClock;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use support::Cluster;

async fn token(cluster: &Cluster, name: &str, kind: &str, expiration: Option<&str>) {
    let base64 = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let mut data = json!({"token-id": base64(name)});
    if let Some(expiration) = expiration {
        data["expiration"] = base64(expiration);
    }
    let object = json!({"metadata": {"name": name}, "type": kind, "data": data});
    cluster.create::<Secret>("kube-system", object).await;
}

#[tokio::test]
async fn tokens_go_when_their_time_is_over_and_nothing_else_does() {
    const TOKEN: &str = "bootstrap.kubernetes.io/token";
    let cluster = Cluster::start(&["bootstrap-token-cleaner-controller"]);
    let now = SystemClock::shared().now();
    let soon = now
        .saturating_add(Duration::from_secs(2))
        .to_seconds_string();
    let later = now
        .saturating_add(Duration::from_secs(3600))
        .to_seconds_string();
    token(&cluster, "stays", TOKEN, None).await;
    token(&cluster, "later", TOKEN, Some(&later)).await;
    token(&cluster, "other", "Opaque", Some("2020-01-01T00:00:00Z")).await;
    token(&cluster, "past", TOKEN, Some("2020-01-01T00:00:00Z")).await;
    token(&cluster, "unreadable", TOKEN, Some("tomorrow")).await;
    token(&cluster, "soon", TOKEN, Some(&soon)).await;
    let is_there =
        |cluster: &Cluster, name: &str| cluster.get::<Secret>("kube-system", name).is_some();
    cluster
        .until("the tokens whose time is over are gone", |cluster| {
            ["past", "unreadable", "soon"]
                .iter()
                .all(|name| !is_there(cluster, name))
        })
        .await;
    for name in ["stays", "later", "other"] {
        assert!(is_there(&cluster, name), "{name}");
    }
}
