//! A machine with nothing but loopback: a node is installed from a bundle, and its pods find each other.

use serde_json::{Value, json};

use crate::Test;
use crate::installation::{bundle, data_dir, install};
use crate::support::eventually;
use crate::support::machine::Machine;
use crate::support::objects::{script, service, with};

pub(crate) const TESTS: &[Test] = &[(
    "pods_services_and_names_work_on_a_machine_with_only_loopback",
    only_loopback,
)];

fn only_loopback() {
    let machine = Machine::with_only_loopback("lo-only");
    assert_eq!(machine.ok("ip -o link | grep -vc ' lo:' || :", &[]), "0\n");
    let flags = format!("server --data-dir {}", data_dir("lo-only"));
    let variables = [
        ("INSTALL_COMBO_BUNDLE", bundle()),
        ("COMBO_NODE_NAME", "one"),
    ];
    machine.ok(&install(&flags), &variables);
    let kubectl = |words: &str| machine.run(&format!("combo kubectl {words}"), &[]);
    let reads = |words: &str| {
        let output = kubectl(words);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    eventually("the node is Ready", || {
        reads("get nodes one").contains(" Ready ").then_some(())
    });
    eventually("the default service account", || {
        let found = kubectl("get serviceaccount default");
        found.status.success().then_some(())
    });
    let node_port = json!({"spec": {"type": "NodePort"}});
    for object in [
        script("web", "exec webserver"),
        script("client", "sleep 100000"),
        with(service("web", "web"), &node_port),
    ] {
        create(&machine, &object);
    }
    for pod in ["web", "client"] {
        eventually(&format!("the pod {pod} runs"), || {
            reads(&format!("get pod {pod}"))
                .contains("1/1")
                .then_some(())
        });
    }
    let asked = |url: &str| reads(&format!("exec client -- fetch {url}"));
    let value = |path: &str| reads(&format!("get {path}"));
    let pod = value("pod web -o jsonpath={.status.podIP}");
    let cluster = value("service web -o jsonpath={.spec.clusterIP}");
    for host in [
        format!("{pod}:8080"),
        cluster.clone(),
        "web".to_owned(),
        "web.default.svc.cluster.local".to_owned(),
    ] {
        let url = format!("http://{host}/hostname");
        eventually(&format!("{url} answers"), || {
            (asked(&url).trim() == "web").then_some(())
        });
    }
    // From the node itself: the Service, and its port on the node's address.
    let node = value("node one -o jsonpath={.status.addresses[0].address}");
    let port = value("service web -o jsonpath={.spec.ports[0].nodePort}");
    for host in [cluster, format!("{node}:{port}")] {
        let command = format!("busybox wget -qO- http://{host}/hostname");
        eventually(&format!("{host} answers the node"), || {
            let answer = machine.run(&command, &[]);
            (answer.stdout.starts_with(b"web")).then_some(())
        });
    }
    // A pod calls the API by its name, over the Service `kubernetes`.
    let api = "exec client -- nc -w 3 kubernetes.default 443 -e true";
    eventually("the API is reached from a pod", || {
        kubectl(api).status.success().then_some(())
    });
    machine.ok("combo uninstall --yes", &[]);
}

fn create(machine: &Machine, object: &Value) {
    machine.ok(
        &format!("combo kubectl create -f - <<'END'\n{object}\nEND"),
        &[],
    );
}
