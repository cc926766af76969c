//! `--flannel-backend=none`: plugins that others wrote make the network.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Test;
use crate::support::objects::{script, service, web, with};
use crate::support::server::{import_images, work_dir};
use crate::support::{Cluster, Kubectl, Space, eventually};

pub(crate) const TESTS: &[Test] = &[(
    "stock_cni_plugins_connect_pods_and_disconnect_them",
    stock_plugins,
)];

/// Debian's package `containernetworking-plugins`.
const PROGRAMS: &str = "/usr/lib/cni";
const SUBNET: &str = "10.42.77.0/24";
const PREFIX: &str = "10.42.77.";

fn stock_plugins() {
    assert!(
        Path::new(PROGRAMS).join("ptp").exists(),
        "{PROGRAMS} has the plugins of containernetworking-plugins"
    );
    let configurations = work_dir().join("cni/net.d");
    let leases = work_dir().join("cni/leases");
    let folder = configurations.to_str().expect("UTF-8");
    let flags = [
        "--flannel-backend=none",
        "--cni-conf-dir",
        folder,
        "--cni-bin-dir",
        PROGRAMS,
    ];
    let cluster = Cluster::prepare("cni", &flags, &[]);
    import_images(&cluster.server.data_dir);
    cluster.server.run();
    cluster.wait_api();
    let nodes = cluster.kubectl();
    let waiting =
        "NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";
    eventually("the node says what it waits for", || {
        let node = nodes.find("node", "server")?;
        ready(&node)["message"]
            .as_str()?
            .contains(waiting)
            .then_some(())
    });
    let chain = json!({"cniVersion": "1.0.0", "name": "stock", "plugins": [
        {"type": "ptp", "ipam": {"type": "host-local", "dataDir": leases, "ranges": [[{"subnet": SUBNET}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.all.arp_notify": "1"}},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    ]});
    fs::write(configurations.join("10-stock.conflist"), chain.to_string())
        .expect("a configuration");
    cluster.wait_ready(&cluster.server);

    let space = Space::through(cluster.kubectl(), "cni");
    connected(&space.kubectl);
    let leased = || {
        let entries = fs::read_dir(leases.join("stock"))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(PREFIX)).count()
    };
    assert_eq!(leased(), 2, "an address a pod");
    let shaped = cluster.server.place.ok("tc qdisc show");
    assert!(shaped.contains("rate 10Mbit"), "{shaped}");
    let before = started(&space.kubectl);
    cluster.server.end();
    // Pods are taken away by those that connected them, whatever the folder says by then.
    fs::remove_file(configurations.join("10-stock.conflist")).expect("the configuration");
    cluster.server.run();
    cluster.wait_api();
    assert_eq!(started(&space.kubectl), before, "they ran on");
    space.kubectl.ok(&["delete", "pod", "client", "--now"]);
    eventually("its address is given back", || {
        (leased() == 1).then_some(())
    });
    drop(space);
    cluster.tear_down();
    assert_eq!(leased(), 0, "killall gives back what is left");
    assert!(!configurations.exists(), "the folder was made for plugins");
}

/// Two pods that reach each other, by address and as a Service with its name.
fn connected(kubectl: &Kubectl) {
    let server = kubectl.start_pod(&web("web"));
    let bandwidth =
        json!({"metadata": {"annotations": {"kubernetes.io/ingress-bandwidth": "10M"}}});
    kubectl.start_pod(&with(script("client", "sleep 3600"), &bandwidth));
    kubectl.create(&service("web", "web"));
    let address = server["status"]["podIP"].as_str().unwrap_or_default();
    assert!(address.starts_with(PREFIX), "{address}");
    for host in [format!("{address}:8080"), "web".to_owned()] {
        let fetch = format!("fetch http://{host}/hostname");
        eventually(&format!("{host} answers"), || {
            let answer = kubectl.run(&["exec", "client", "--", "sh", "-c", &fetch]);
            answer.stdout.starts_with(b"web").then_some(())
        });
    }
    let sysctl = kubectl.sh("client", "cat /proc/sys/net/ipv4/conf/all/arp_notify");
    assert_eq!(sysctl.trim(), "1", "the second plugin of the chain ran");
}

fn ready(node: &Value) -> Value {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
    ready.cloned().unwrap_or_default()
}

fn started(kubectl: &Kubectl) -> Vec<Value> {
    let pods = ["web", "client"].map(|pod| kubectl.get("pod", pod));
    let states = pods
        .iter()
        .map(|pod| &pod["status"]["containerStatuses"][0]);
    states
        .map(|state| json!([state["containerID"], state["restartCount"], state["state"]]))
        .collect()
}
