//! Commands against an API in memory, with what they print.

use std::io::Write;
use std::sync::{Arc, Mutex};

use apimachinery::{GroupVersionResource, Object, ObjectKey};
use clap::{Args as _, Command, FromArgMatches as _};
use env::SystemClock;
use kube_client::fake::FakeApi;
use serde_json::{Value, json};

use crate::command::{Kubectl, dispatch_for_tests};
use crate::session::Session;

/// What was printed.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .expect("no writer panics")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no writer panics").clone()).expect("text")
    }
}

struct Outcome {
    out: String,
    err: String,
    failure: String,
}

async fn kubectl(api: &Arc<FakeApi>, line: &str) -> Outcome {
    let words: Vec<&str> = line.split_whitespace().collect();
    let parser = Kubectl::augment_args(Command::new("kubectl").no_binary_name(true));
    let matches = parser.try_get_matches_from(words).expect("arguments");
    let command = Kubectl::from_arg_matches(&matches).expect("arguments");
    let (out, err) = (Screen::default(), Screen::default());
    let mut session = Session::new(&api.client(), "default", SystemClock::shared());
    session.out = Box::new(out.clone());
    session.err = Box::new(err.clone());
    let done = dispatch_for_tests(command, &mut session).await;
    let failure = done
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    Outcome {
        out: out.text(),
        err: err.text(),
        failure,
    }
}

fn config_maps() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "configmaps")
}

async fn with_config_maps(names: &[&str]) -> Arc<FakeApi> {
    let api = FakeApi::new(SystemClock::shared());
    for name in names {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                            "metadata": {"name": name, "labels": {"app": name}}, "data": {"n": "1"}});
        let object = Object::from_value(object).expect("an object");
        api.client()
            .dynamic(config_maps(), "default")
            .create(&object)
            .await
            .expect("created");
    }
    api
}

fn object(api: &FakeApi, name: &str) -> Option<Value> {
    api.object(&config_maps(), &ObjectKey::namespaced("default", name))
        .map(Object::into_value)
}

#[tokio::test]
async fn get_prints_names_values_and_what_is_missing() {
    let api = with_config_maps(&["a", "b"]).await;
    assert_eq!(
        kubectl(&api, "get configmap -o name").await.out,
        "configmap/a\nconfigmap/b\n"
    );
    assert_eq!(
        kubectl(&api, "get configmap/a -o jsonpath={.data.n}")
            .await
            .out,
        "1"
    );
    assert_eq!(
        kubectl(
            &api,
            "get configmap -o custom-columns=NAME:.metadata.name,N:.data.n"
        )
        .await
        .out,
        "NAME   N\na      1\nb      1\n"
    );
    assert_eq!(
        kubectl(&api, "get configmap -l app=b -o name").await.out,
        "configmap/b\n"
    );
    let missing = kubectl(&api, "get configmap a x -o name").await;
    assert_eq!(missing.out, "configmap/a\n");
    assert_eq!(
        missing.failure,
        "Error from server (NotFound): configmaps \"x\" not found"
    );
    assert_eq!(
        kubectl(&api, "get configmap x --ignore-not-found")
            .await
            .failure,
        ""
    );
    assert_eq!(
        kubectl(&api, "get pods").await.err,
        "No resources found in default namespace.\n"
    );
}

#[tokio::test]
async fn lists_have_their_kind_and_no_managed_fields() {
    let api = with_config_maps(&["a"]).await;
    let list: Value =
        serde_json::from_str(&kubectl(&api, "get configmap -o json").await.out).expect("JSON");
    assert_eq!(
        (&list["kind"], &list["items"][0]["kind"]),
        (&json!("List"), &json!("ConfigMap"))
    );
    let one: Value =
        serde_json::from_str(&kubectl(&api, "get configmap a -o json").await.out).expect("JSON");
    assert_eq!(one["metadata"]["name"], "a");
    assert_eq!(one["metadata"].get("managedFields"), None);
}

#[tokio::test]
async fn delete_says_what_is_gone_and_waits_for_it() {
    let api = with_config_maps(&["a", "b", "c"]).await;
    assert_eq!(
        kubectl(&api, "delete configmap a").await.out,
        "configmap \"a\" deleted from default namespace\n"
    );
    assert_eq!(object(&api, "a"), None);
    assert_eq!(
        kubectl(&api, "delete configmap a").await.failure,
        "Error from server (NotFound): configmaps \"a\" not found"
    );
    assert_eq!(
        kubectl(&api, "delete configmap a --ignore-not-found")
            .await
            .failure,
        ""
    );
    assert_eq!(
        kubectl(&api, "delete configmap -l app=b -o name").await.out,
        "configmap/b\n"
    );
    assert_eq!(
        kubectl(&api, "delete configmap").await.failure,
        "error: resource(s) were provided, but no name was specified"
    );
    assert_eq!(
        kubectl(&api, "delete configmap --all --wait=false")
            .await
            .failure,
        ""
    );
    assert_eq!(object(&api, "c"), None);
}

#[tokio::test]
async fn create_label_annotate_and_patch_change_objects() {
    let api = with_config_maps(&[]).await;
    let created = kubectl(&api, "create configmap a --from-literal=n=1").await;
    assert_eq!(created.out, "configmap/a created\n");
    assert_eq!(object(&api, "a").expect("there")["data"]["n"], "1");
    assert_eq!(
        kubectl(&api, "label configmap a x=1").await.out,
        "configmap/a labeled\n"
    );
    assert_eq!(
        kubectl(&api, "label configmap a x-").await.out,
        "configmap/a unlabeled\n"
    );
    assert_eq!(
        kubectl(&api, "annotate configmap/a y=2").await.out,
        "configmap/a annotated\n"
    );
    let patched = kubectl(
        &api,
        r#"patch configmap a --type=merge -p {"data":{"n":"2"}}"#,
    )
    .await;
    assert_eq!(patched.out, "configmap/a patched\n");
    let object = object(&api, "a").expect("there");
    assert_eq!(
        (
            &object["data"]["n"],
            &object["metadata"]["annotations"]["y"]
        ),
        (&json!("2"), &json!("2"))
    );
    let dry = kubectl(&api, "create configmap b --dry-run=client -o yaml").await;
    assert!(
        dry.out.starts_with("apiVersion: v1\nkind: ConfigMap\n"),
        "{}",
        dry.out
    );
    assert!(self::object(&api, "b").is_none());
}

#[tokio::test]
async fn wait_ends_when_what_is_waited_for_comes() {
    let api = with_config_maps(&["a"]).await;
    let waiting = kubectl(
        &api,
        "wait configmap/a --for=jsonpath={.data.n}=2 --timeout=20s",
    );
    let change = async {
        let patch = kube_client::Patch::Merge(json!({"data": {"n": "2"}}));
        api.client()
            .dynamic(config_maps(), "default")
            .patch("a", &patch)
            .await
            .expect("patched");
    };
    let (waited, ()) = tokio::join!(waiting, change);
    assert_eq!(waited.out, "configmap/a condition met\n");
    assert_eq!(
        kubectl(&api, "wait configmap/a --for=condition=Ready --timeout=0")
            .await
            .failure,
        "error: timed out waiting for the condition on configmaps/a"
    );
}

#[tokio::test]
async fn describe_shows_data_and_says_when_there_is_nothing() {
    let api = with_config_maps(&["a"]).await;
    let described = kubectl(&api, "describe configmap a").await;
    assert!(
        described.out.contains("Name:         a\n"),
        "{}",
        described.out
    );
    assert!(described.out.contains("n:\n----\n1\n"), "{}", described.out);
    assert_eq!(
        kubectl(&api, "describe configmap x").await.failure,
        "Error from server (NotFound): configmaps \"x\" not found"
    );
}

#[test]
fn switches_may_be_written_with_a_value_and_together() {
    let parser = || Kubectl::augment_args(Command::new("kubectl").no_binary_name(true));
    for line in [
        "exec -it pod -c x -- sh -c ls",
        "get pods -A --no-headers=true -w=false",
        "-n a get -n b pods -owide",
        "delete pod x --force --grace-period=0 --wait=false",
        "logs -fp x --tail -1",
        "apply --server-side=true -f - --force-conflicts",
    ] {
        parser()
            .try_get_matches_from(line.split(' '))
            .unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    parser().debug_assert();
}
