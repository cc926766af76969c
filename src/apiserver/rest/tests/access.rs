//! Who says nothing of himself is refused on every path, unless anonymous access is allowed.

mod support;

use rest::AnonymousAccess;
use serde_json::{Value, json};
use support::{Cluster, read};

const PATHS: [&str; 9] = [
    "/",
    "/livez",
    "/readyz",
    "/healthz/ping",
    "/version",
    "/api",
    "/openapi/v3",
    "/api/v1/namespaces/default/pods?watch=1",
    "/no/such/path",
];

#[tokio::test]
async fn without_credentials_every_path_is_refused() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect(None).await;
    for path in PATHS {
        let (code, status) = client.call("GET", path, Value::Null).await;
        let expected = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": 401,
            "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized"});
        assert_eq!((code, status), (401, expected), "{path}");
    }
}

#[tokio::test]
async fn credentials_that_nobody_knows_are_refused_in_both_worlds() {
    for access in [AnonymousAccess::Refused, AnonymousAccess::Allowed] {
        let cluster = Cluster::start_changed(0, |config| config.anonymous_access = access).await;
        let mut client = cluster.connect(None).await;
        for path in ["/livez", "/api/v1/namespaces"] {
            let request = http::Request::builder()
                .uri(path)
                .header("host", "localhost")
                .header("authorization", "Bearer nothing")
                .body(Default::default())
                .expect("a request");
            let (code, _) = read(client.send_raw(request).await).await;
            assert_eq!(code, 401, "{access:?} {path}");
        }
    }
}

#[tokio::test]
async fn anonymous_access_gives_what_roles_give_to_anybody() {
    let allow = |config: &mut rest::Config| config.anonymous_access = AnonymousAccess::Allowed;
    let cluster = Cluster::start_changed(0, allow).await;
    let mut client = cluster.connect(None).await;
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        assert_eq!(client.call("GET", path, Value::Null).await.0, 200, "{path}");
    }
    for path in ["/livez/ping", "/api/v1/namespaces", "/apis", "/metrics"] {
        let (code, status) = client.call("GET", path, Value::Null).await;
        assert_eq!(code, 403, "{path}");
        let message = status["message"].as_str().expect("a text");
        assert!(message.contains("\"system:anonymous\""), "{message}");
    }
}
