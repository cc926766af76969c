//! What people put into files: configuration, manifests, images, tokens.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::Test;
use crate::support::images::{BUSYBOX, archives};
use crate::support::objects::{idle, with};
use crate::support::server::{combo, work_dir};
use crate::support::{Kubectl, Options, Server, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("files_variables_and_words_count_in_their_order", files),
    ("what_is_wrong_is_told_with_file_line_and_key", wrong_files),
    (
        "wrong_settings_of_registries_are_told_with_line_and_key",
        wrong_registries,
    ),
    (
        "a_running_node_keeps_the_settings_before_wrong_ones",
        kept_registries,
    ),
    ("manifests_are_applied_changed_and_pruned", manifests),
    ("images_are_exported_pinned_and_verified", images),
    ("tokens_are_made_listed_rotated_and_deleted", tokens),
];

fn run(words: &[&str]) -> Output {
    let done = Command::new(combo()).args(words).output();
    done.expect("combo runs")
}

fn ok(words: &[&str]) -> String {
    let done = run(words);
    assert!(done.status.success(), "{words:?}: {done:?}");
    String::from_utf8(done.stdout).expect("UTF-8")
}

fn refused(words: &[&str]) -> String {
    let done = run(words);
    assert!(!done.status.success(), "{words:?}: {done:?}");
    String::from_utf8(done.stderr).expect("UTF-8")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn files() {
    let folder = work_dir().join("config-files");
    fs::create_dir_all(folder.join("config.yaml.d")).unwrap();
    let config = folder.join("config.yaml");
    fs::write(
        &config,
        "cluster-domain: first.local\ntls-san: [one.example]\nhttps-listen-port: 1\n",
    )
    .unwrap();
    let more =
        "cluster-domain: edge.local\ntls-san+: [two.example, 192.0.2.7]\ndisable: [coredns]\n";
    fs::write(folder.join("config.yaml.d/10-more.yaml"), more).unwrap();
    let flags = vec![
        "--disable-agent",
        "--config",
        Box::leak(text(&config).into()),
    ];
    let server = Server::start(
        "configured",
        &Options {
            flags,
            data_dir: None,
        },
    );
    let issuer = server
        .http()
        .get("/.well-known/openid-configuration")
        .unwrap();
    let issuer: Value = serde_json::from_slice(&issuer.body).unwrap();
    assert_eq!(
        issuer["issuer"],
        "https://kubernetes.default.svc.edge.local"
    );
    let data_dir = text(&server.data_dir);
    for (host, is_named) in [
        ("two.example", true),
        ("192.0.2.7", true),
        ("other.example", false),
    ] {
        let url = format!("https://{host}:6443");
        let done = run(&["kubeconfig", "-d", data_dir, "--server", &url]);
        assert!(done.status.success(), "{done:?}");
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!(told.is_empty(), is_named, "{told}");
        let config: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], url);
    }
    let written = folder.join("admin.kubeconfig");
    let url = format!("https://127.0.0.1:{}", server.port);
    ok(&[
        "kubeconfig",
        "-d",
        data_dir,
        "-s",
        &url,
        "-o",
        text(&written),
    ]);
    assert!(
        Kubectl::stock(&written)
            .ok(&["get", "namespaces"])
            .contains("kube-system")
    );
    server.tear_down();
}

fn wrong_files() {
    let folder = work_dir().join("wrong-files");
    fs::create_dir_all(&folder).unwrap();
    let config = folder.join("config.yaml");
    for (command, content, why) in [
        (
            "server",
            "\nnode-nam: a\n",
            "line 2: node-nam: there is no such key; node-name is near it",
        ),
        (
            "server",
            "debug: true\nhttps-listen-port: many\n",
            "line 2: https-listen-port: invalid digit",
        ),
        (
            "agent",
            "node-label: {a: b}\n",
            "line 1: node-label: its value is a map",
        ),
        (
            "agent",
            "cluster-cidr: 10.0.0.0/8\n",
            "line 1: cluster-cidr: it is one of `combo server`",
        ),
        (
            "server",
            "cluster-init: true\n",
            "line 1: cluster-init: there is no embedded etcd",
        ),
        ("server", "a: [\n", "cannot read the configuration file"),
    ] {
        fs::write(&config, content).unwrap();
        let told = refused(&[command, "--config", text(&config)]);
        assert!(told.contains(why) && told.contains(text(&config)), "{told}");
    }
    for (words, why) in [
        (&["server", "--cluster-init"][..], "--datastore-endpoint"),
        (&["server", "--disable", "traefik"], "not built"),
        (&["server", "--certificate-duration", "1s"], "1m"),
        (&["server", "--config", "/none"], "/none"),
    ] {
        let told = refused(words);
        assert!(told.contains(why), "{told}");
    }
}

const WRONG_REGISTRIES: &[(&str, &str)] = &[
    ("mirrors: [a]\n", "line 1: mirrors: "),
    (
        "mirrors:\n  docker.io:\n    endpoint: http://a\n",
        "line 3: mirrors.docker.io.endpoint: ",
    ),
    ("mirror: {}\n", "line 1: mirror: unknown field"),
    (
        "mirrors:\n  a:\n    endpoint:\n    - ftp://b\n",
        "line 4: mirrors.a.endpoint \"ftp://b\": the scheme",
    ),
    (
        "configs:\n  a:\n    auth: {user: secret}\n",
        "line 3: configs.a.auth.user: unknown field",
    ),
    ("configs: {\n", "line 1"),
];

fn wrong_registries() {
    let folder = work_dir().join("wrong-registries");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("registries.yaml");
    let data_dir = folder.join("data");
    for (content, why) in WRONG_REGISTRIES {
        fs::write(&file, content).unwrap();
        let pull = ["image", "pull", "-d", text(&data_dir)];
        let told = refused(&[&pull[..], &["--registries", text(&file), BUSYBOX]].concat());
        assert!(told.contains(why) && told.contains(text(&file)), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

fn kept_registries() {
    let folder = work_dir().join("kept-registries");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("registries.yaml");
    fs::write(
        &file,
        "mirrors: {a.example: {endpoint: [\"http://127.0.0.1:1\"]}}\n",
    )
    .unwrap();
    let flags = vec![
        "--disable-default-registry-endpoint",
        "--private-registry",
        Box::leak(text(&file).into()),
    ];
    let server = Server::start(
        "registries",
        &Options {
            flags,
            data_dir: None,
        },
    );
    for (content, why) in WRONG_REGISTRIES {
        let next = folder.join("next");
        fs::write(&next, content).unwrap();
        fs::rename(&next, &file).unwrap();
        // What is quoted in a message is quoted again in a log.
        let why = why.replace('"', "\\\"");
        eventually("the log tells it", || {
            server.log().contains(&why).then_some(())
        });
    }
    let pod = with(
        idle("pulls"),
        &json!({"spec": {"containers": [
            {"name": "main", "image": "a.example/b:1"},
        ]}}),
    );
    let kubectl = server.kubectl().in_namespace("default");
    kubectl.create(&pod);
    eventually("the mirror of the first settings is asked", || {
        let events = kubectl.ok(&["get", "events"]);
        events.contains("127.0.0.1:1").then_some(())
    });
    kubectl.ok(&["delete", "pod", "pulls", "--now"]);
    server.tear_down();
}

fn config_map(name: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{key: {value}}}\n"
    )
}

fn manifests() {
    let server = Server::prepare("manifests", &Options::control_plane_only());
    let folder = server.data_dir.join("server/manifests");
    fs::create_dir_all(folder.join("apps")).unwrap();
    let widgets = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
        metadata: {name: widgets.example.com}\nspec:\n  group: example.com\n  scope: Namespaced\n\
        \x20 names: {plural: widgets, kind: Widget}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n\
        \x20   schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}\n";
    // The object's file comes before that of its kind and that of its namespace.
    fs::write(
        folder.join("a.yaml"),
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: first, namespace: shop}\n",
    )
    .unwrap();
    fs::write(folder.join("apps/kinds.yml"), widgets).unwrap();
    fs::write(
        folder.join("shop.json"),
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}"#,
    )
    .unwrap();
    fs::write(
        folder.join("maps.yaml"),
        config_map("one", "first") + &config_map("two", "first"),
    )
    .unwrap();
    server.run();
    server.wait_ready();
    let kubectl = server.kubectl();
    let value = |name: &str| {
        let path = format!("/api/v1/namespaces/default/configmaps/{name}");
        let answer = server.http().get(&path).unwrap();
        let object: Value = serde_json::from_slice(&answer.body).unwrap();
        object["data"]["key"].as_str().map(str::to_owned)
    };
    eventually("the widget", || {
        let path = "/apis/example.com/v1/namespaces/shop/widgets/first";
        let answer = server.http().get(path).ok()?;
        (answer.status == 200).then_some(())
    });
    eventually("the maps", || value("two"));
    fs::write(folder.join("maps.yaml"), config_map("one", "second")).unwrap();
    eventually("a change and a prune", || {
        (value("one").as_deref() == Some("second") && value("two").is_none()).then_some(())
    });
    fs::write(
        folder.join("maps.yaml"),
        config_map("one", "third") + "---\nkind: [\n",
    )
    .unwrap();
    eventually("an Event about the bad file", || {
        let events = kubectl.ok(&["get", "events", "-n", "kube-system"]);
        (events.contains("maps.yaml") && events.contains("line ")).then_some(())
    });
    assert_eq!(value("one").as_deref(), Some("second"));
    // A file that goes while nobody looks takes what it made along at the next start.
    server.stop();
    fs::remove_file(folder.join("maps.yaml")).unwrap();
    fs::write(folder.join("a.yaml.skip"), "").unwrap();
    fs::remove_file(folder.join("a.yaml")).unwrap();
    server.run();
    server.wait_ready();
    eventually("the map is gone", || value("one").is_none().then_some(()));
    assert!(
        kubectl
            .ok(&["get", "widgets", "-n", "shop"])
            .contains("first")
    );
    server.tear_down();
}

fn images() {
    let (from, to) = (work_dir().join("images-from"), work_dir().join("images-to"));
    let archive = work_dir().join("exported.tar");
    let (from, to, archive) = (text(&from), text(&to), text(&archive));
    for images in archives() {
        ok(&["image", "import", "-d", from, text(images)]);
    }
    ok(&["image", "export", "-d", from, "-o", archive, BUSYBOX]);
    ok(&["image", "import", "-d", to, archive]);
    let listed = |data_dir: &str| -> Vec<Value> {
        let text = ok(&["image", "list", "-d", data_dir, "-o", "json"]);
        serde_json::from_str(&text).expect("JSON")
    };
    let images = listed(to);
    assert_eq!(images.len(), 1);
    assert!(listed(from).contains(&images[0]), "{images:?}");
    assert_eq!(images[0]["pinned"], true);
    ok(&["image", "unpin", "-d", to, BUSYBOX]);
    assert_eq!(listed(to)[0]["pinned"], false);
    ok(&["image", "pin", "-d", to, BUSYBOX]);
    assert_eq!(listed(to)[0]["pinned"], true);
    assert!(ok(&["image", "verify", "-d", to]).contains("good"));
    let blobs = Path::new(to).join("agent/images/blobs/sha256");
    let largest = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut content = fs::read(&largest).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&largest, content).unwrap();
    let done = run(&["image", "verify", "-d", to, BUSYBOX]);
    assert!(!done.status.success());
    assert!(
        String::from_utf8_lossy(&done.stdout).contains("damaged"),
        "{done:?}"
    );
    ok(&["image", "rm", "-d", to, BUSYBOX]);
    assert_eq!(listed(to), Vec::<Value>::new());
    let told = refused(&["image", "export", "-d", to, "-o", archive, BUSYBOX]);
    assert!(told.contains("not found"), "{told}");
}

fn tokens() {
    let server = Server::start("tokens", &Options::control_plane_only());
    let kubeconfig = text(&server.kubeconfig);
    let read = |name: &str| fs::read_to_string(server.data_dir.join("server").join(name)).unwrap();
    let (servers, agents) = (read("token"), read("agent-token"));
    assert!(
        servers.starts_with("K10") && servers.contains("::server:"),
        "{servers}"
    );
    assert!(agents.contains("::node:"), "{agents}");
    assert_eq!(read("node-token"), agents);
    let pin = &servers[..servers.find("::").unwrap()];

    bootstrap_tokens(kubeconfig, pin);

    let data_dir = text(&server.data_dir);
    let rotated = ok(&["token", "rotate", "-d", data_dir]);
    assert_ne!(rotated, agents);
    assert_eq!(read("node-token"), rotated);
    assert_eq!(read("token"), servers);
    ok(&[
        "token",
        "rotate",
        "-d",
        data_dir,
        "--role",
        "server",
        "--new-token",
        "chosen",
    ]);
    assert_eq!(read("token"), format!("{pin}::server:chosen\n"));
    server.tear_down();
}

/// Tokens that last for a while: made, listed, deleted, and gone when their time is over.
fn bootstrap_tokens(kubeconfig: &str, pin: &str) {
    let made = ok(&[
        "token",
        "create",
        "--kubeconfig",
        kubeconfig,
        "--ttl",
        "1h",
        "--description",
        "shop 7",
    ]);
    assert!(made.starts_with(pin), "{made}");
    let secret = made.trim().rsplit("::").next().unwrap();
    let chosen = ok(&["token", "generate"]);
    ok(&[
        "token",
        "create",
        "--kubeconfig",
        kubeconfig,
        "--ttl",
        "0",
        chosen.trim(),
    ]);
    let listed = ok(&["token", "list", "--kubeconfig", kubeconfig, "-o", "json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    let find = |token: &str| {
        listed
            .iter()
            .find(|listed| listed["token"] == token)
            .expect(token)
    };
    assert_eq!(find(secret)["description"], "shop 7");
    assert!(find(secret)["expires"].is_string());
    assert!(find(chosen.trim())["expires"].is_null());
    ok(&["token", "delete", "--kubeconfig", kubeconfig, made.trim()]);
    assert!(!ok(&["token", "list", "--kubeconfig", kubeconfig]).contains(secret));
    let told = refused(&["token", "delete", "--kubeconfig", kubeconfig, made.trim()]);
    assert!(told.contains("there is no token"), "{told}");
    ok(&[
        "token",
        "create",
        "--kubeconfig",
        kubeconfig,
        "--ttl",
        "1s",
        made.trim().rsplit("::").next().unwrap(),
    ]);
    eventually("the token is deleted when its time is over", || {
        let listed = ok(&["token", "list", "--kubeconfig", kubeconfig]);
        (!listed.contains(secret)).then_some(())
    });
    assert!(
        refused(&[
            "token",
            "create",
            "--kubeconfig",
            kubeconfig,
            "--groups",
            "admins"
        ])
        .contains("system:bootstrappers:")
    );
}
