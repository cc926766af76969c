//! Services and names, asked from inside pods and from the host.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::support::objects::{deployment, idle, script, service, web, with, with_container};
use crate::support::{Kubectl, Space, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("a_cluster_address_leads_to_every_ready_pod", cluster_ip),
    ("a_node_port_answers_on_the_host", node_port),
    ("names_of_services_and_pods_are_known_inside", names),
    ("a_headless_service_has_the_addresses_of_its_pods", headless),
    ("a_service_without_endpoints_refuses", no_endpoints),
    ("readiness_gates_traffic", readiness),
    ("client_affinity_keeps_to_one_pod", affinity),
    ("a_pod_reaches_itself_through_its_service", hairpin),
    ("a_host_port_answers_on_the_host", host_port),
    ("an_external_name_is_another_name", external_name),
    (
        "a_load_balancers_port_belongs_to_the_older_service",
        load_balancer,
    ),
    ("a_network_policy_lets_only_friends_in", network_policy),
];

/// What the web server says at a path, asked by a pod; empty if it does not answer.
fn fetch(kubectl: &Kubectl, from: &str, url: &str) -> String {
    let output = kubectl.run(&["exec", from, "--", "fetch", url]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same asked by the host, or by the thread's network namespace.
pub(crate) fn fetch_from_host(address: &str, port: u16, path: &str) -> Option<String> {
    let address = std::net::SocketAddr::new(address.parse().unwrap(), port);
    let limit = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_head, body)| body.to_owned())
}

fn node_address(kubectl: &Kubectl) -> String {
    let node = kubectl.get("node", "node-shared");
    let addresses = node["status"]["addresses"].as_array().unwrap();
    let internal = addresses
        .iter()
        .find(|address| address["type"] == "InternalIP")
        .unwrap();
    internal["address"].as_str().unwrap().to_owned()
}

fn names_of_pods(kubectl: &Kubectl, app: &str) -> Vec<String> {
    let pods = kubectl.list("pods", &format!("app={app}"));
    let mut names: Vec<String> = pods
        .iter()
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Two pods of the web server behind a Service, and a client.
fn served(space: &Space) {
    space.kubectl.create(&deployment("web", 2));
    space.kubectl.create(&service("web", "web"));
    space.kubectl.start_pod(&idle("client"));
    space
        .kubectl
        .ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
}

fn cluster_ip() {
    let space = Space::new("cluster-ip");
    served(&space);
    let pods = names_of_pods(&space.kubectl, "web");
    let address = space.kubectl.get("service", "web")["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut seen = std::collections::BTreeSet::new();
    eventually("both pods answer", || {
        seen.insert(fetch(
            &space.kubectl,
            "client",
            &format!("http://{address}/hostname"),
        ));
        pods.iter().all(|pod| seen.contains(pod)).then_some(())
    });
    let host = eventually("the host is answered", || {
        fetch_from_host(&address, 80, "/hostname")
    });
    assert!(pods.contains(&host), "{host}");
    let slices = space
        .kubectl
        .list("endpointslices", "kubernetes.io/service-name=web");
    assert_eq!(slices[0]["endpoints"].as_array().unwrap().len(), 2);
}

fn node_port() {
    let space = Space::new("node-port");
    space.kubectl.start_pod(&web("web"));
    space.kubectl.create(&with(
        service("web", "web"),
        &json!({"spec": {"type": "NodePort"}}),
    ));
    let port = space.kubectl.get("service", "web")["spec"]["ports"][0]["nodePort"]
        .as_u64()
        .unwrap();
    let port = u16::try_from(port).unwrap();
    let address = node_address(&space.kubectl);
    let answer = eventually("the node's port answers", || {
        fetch_from_host(&address, port, "/hostname")
    });
    assert_eq!(answer, "web");
    space.kubectl.start_pod(&idle("client"));
    assert_eq!(
        fetch(
            &space.kubectl,
            "client",
            &format!("http://{address}:{port}/hostname")
        ),
        "web"
    );
    space.kubectl.ok(&["delete", "service", "web"]);
    eventually("the port closes", || {
        fetch_from_host(&address, port, "/hostname")
            .is_none()
            .then_some(())
    });
}

fn names() {
    let space = Space::new("names");
    served(&space);
    for name in [
        "web",
        "web.names",
        "web.names.svc",
        "web.names.svc.cluster.local",
    ] {
        let answer = eventually(name, || {
            Some(fetch(&space.kubectl, "client", &format!("http://{name}/")))
                .filter(|text| !text.is_empty())
        });
        assert!(answer.starts_with("Hello from web-"), "{name}: {answer}");
    }
    let address = space.kubectl.get("service", "web")["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    let found = space.kubectl.sh(
        "client",
        "nslookup web.names.svc.cluster.local; cat /etc/resolv.conf",
    );
    assert!(found.contains(&format!("Address: {address}")), "{found}");
    assert!(
        found.contains("search names.svc.cluster.local svc.cluster.local cluster.local"),
        "{found}"
    );
    assert!(found.contains("options ndots:5"), "{found}");
    let back = space.kubectl.sh("client", &format!("nslookup {address}"));
    assert!(back.contains("web.names.svc.cluster.local"), "{back}");
    let unknown = space.kubectl.run(&[
        "exec",
        "client",
        "--",
        "nslookup",
        "nobody.names.svc.cluster.local",
    ]);
    assert!(
        String::from_utf8_lossy(&unknown.stdout).contains("NXDOMAIN"),
        "{unknown:?}"
    );
    let api = space
        .kubectl
        .sh("client", "nslookup kubernetes.default.svc.cluster.local");
    assert!(api.contains("Address: 10."), "{api}");
}

fn headless() {
    let space = Space::new("headless");
    space.kubectl.create(&with(
        service("group", "member"),
        &json!({"spec": {"clusterIP": "None"}}),
    ));
    let member = |name: &str| {
        with(
            web(name),
            &json!({"metadata": {"labels": {"app": "member"}}, "spec": {"hostname": name, "subdomain": "group"}}),
        )
    };
    let address = |pod: Value| pod["status"]["podIP"].as_str().unwrap().to_owned();
    let one = address(space.kubectl.start_pod(&member("one")));
    let two = address(space.kubectl.start_pod(&member("two")));
    space.kubectl.start_pod(&idle("client"));
    eventually("both addresses under the Service's name", || {
        let found = space.kubectl.run(&[
            "exec",
            "client",
            "--",
            "nslookup",
            "group.headless.svc.cluster.local",
        ]);
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        (found.contains(&one) && found.contains(&two)).then_some(())
    });
    let found = space
        .kubectl
        .sh("client", "nslookup one.group.headless.svc.cluster.local");
    assert!(found.contains(&one) && !found.contains(&two), "{found}");
}

fn no_endpoints() {
    let space = Space::new("no-endpoints");
    space.kubectl.start_pod(&web("web"));
    space.kubectl.create(&service("web", "web"));
    space.kubectl.start_pod(&idle("client"));
    eventually("an answer", || {
        (fetch(&space.kubectl, "client", "http://web/hostname") == "web").then_some(())
    });
    space.kubectl.ok(&["delete", "pod", "web"]);
    let refused = eventually("a refusal", || {
        let output = space
            .kubectl
            .run(&["exec", "client", "--", "fetch", "http://web/"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.contains("refused").then_some(said)
    });
    assert!(refused.contains("Connection refused"), "{refused}");
}

fn readiness() {
    let space = Space::new("readiness");
    let probe = json!({"readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}});
    let pod = with_container(script("web", "exec webserver"), &probe);
    space.kubectl.create(&pod);
    space.kubectl.create(&service("web", "web"));
    space.kubectl.start_pod(&idle("client"));
    space.kubectl.until("pod", "web", "running", |pod| {
        pod["status"]["phase"] == "Running"
    });
    assert_eq!(
        fetch(&space.kubectl, "client", "http://web/"),
        "",
        "it is not ready"
    );
    space.kubectl.sh("web", "touch /tmp/ready");
    eventually("traffic", || {
        fetch(&space.kubectl, "client", "http://web/")
            .contains("Hello from web")
            .then_some(())
    });
    space.kubectl.sh("web", "rm /tmp/ready");
    eventually("no traffic", || {
        fetch(&space.kubectl, "client", "http://web/")
            .is_empty()
            .then_some(())
    });
}

fn affinity() {
    let space = Space::new("affinity");
    served(&space);
    space.kubectl.create(&with(
        service("sticky", "web"),
        &json!({"spec": {"sessionAffinity": "ClientIP"}}),
    ));
    let ask = || fetch(&space.kubectl, "client", "http://sticky/hostname");
    let first = eventually("an answer", || Some(ask()).filter(|text| !text.is_empty()));
    for _again in 0..8 {
        assert_eq!(ask(), first);
    }
}

fn hairpin() {
    let space = Space::new("hairpin");
    space.kubectl.start_pod(&script("web", "exec webserver"));
    space.kubectl.create(&service("front", "web"));
    eventually("its own answer", || {
        fetch(&space.kubectl, "web", "http://front/")
            .contains("Hello from web")
            .then_some(())
    });
}

fn host_port() {
    let space = Space::new("host-port");
    let ports = json!({"ports": [{"containerPort": 8080, "hostPort": 28_080}]});
    space.kubectl.start_pod(&with_container(web("web"), &ports));
    let address = node_address(&space.kubectl);
    let answer = eventually("the host's port answers", || {
        fetch_from_host(&address, 28_080, "/hostname")
    });
    assert_eq!(answer, "web");
    // Nobody else can have it: the scheduler says so.
    space.kubectl.create(&with_container(web("second"), &ports));
    eventually("the second is held", || {
        space
            .kubectl
            .ok(&["describe", "pod", "second"])
            .contains("didn't have free ports")
            .then_some(())
    });
}

fn external_name() {
    let space = Space::new("external-name");
    served(&space);
    let elsewhere = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias"},
        "spec": {"type": "ExternalName", "externalName": "web.external-name.svc.cluster.local"},
    });
    space.kubectl.create(&elsewhere);
    let answer = eventually("an answer", || {
        Some(fetch(&space.kubectl, "client", "http://alias/")).filter(|text| !text.is_empty())
    });
    assert!(answer.starts_with("Hello from web-"), "{answer}");
}

fn load_balancer() {
    let space = Space::new("load-balancer");
    space.kubectl.start_pod(&web("web"));
    let balanced = |name: &str| {
        let of_type = json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 28_081, "targetPort": 8080}]}});
        with(service(name, "web"), &of_type)
    };
    let ingress = |name: &str| {
        let service = space.kubectl.get("service", name);
        service["status"]["loadBalancer"]["ingress"].clone()
    };
    space.kubectl.create(&balanced("first"));
    let address = node_address(&space.kubectl);
    let expected = json!([{"ip": address, "ipMode": "VIP"}]);
    eventually("the node's address", || {
        (ingress("first") == expected).then_some(())
    });
    let answer = eventually("the port answers", || {
        fetch_from_host(&address, 28_081, "/hostname")
    });
    assert_eq!(answer, "web");

    space.kubectl.create(&balanced("second"));
    eventually("the second is told who has the port", || {
        let told = space.kubectl.ok(&["describe", "service", "second"]);
        (told.contains("PortConflict") && told.contains("load-balancer/first")).then_some(())
    });
    assert!(ingress("second").is_null());
    space.kubectl.ok(&["delete", "service", "first"]);
    eventually("the second takes over", || {
        (ingress("second") == expected).then_some(())
    });
    space.kubectl.ok(&["delete", "service", "second"]);
    eventually("the port closes", || {
        fetch_from_host(&address, 28_081, "/hostname")
            .is_none()
            .then_some(())
    });
}

fn network_policy() {
    let space = Space::new("network-policy");
    let kubectl = &space.kubectl;
    kubectl.start_pod(&web("web"));
    kubectl.create(&service("web", "web"));
    for client in ["friend", "stranger"] {
        let labels = json!({"metadata": {"labels": {"role": client}}});
        kubectl.start_pod(&with(idle(client), &labels));
    }
    let reaches = |client: &str| fetch(kubectl, client, "http://web/hostname") == "web";
    eventually("everybody is answered", || {
        (reaches("friend") && reaches("stranger")).then_some(())
    });
    kubectl.create(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "friends"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"role": "friend"}}}], "ports": [{"port": 8080}]}]},
    }));
    eventually("strangers are not", || (!reaches("stranger")).then_some(()));
    assert!(reaches("friend"));
    // Probes come from the node.
    let web_address = kubectl.get("pod", "web")["status"]["podIP"].clone();
    let answer = fetch_from_host(web_address.as_str().unwrap(), 8080, "/hostname");
    assert_eq!(answer.as_deref(), Some("web"));

    // Names are asked for at port 53, and that is what a policy allows.
    let egress = |ports: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "out"},
            "spec": {"podSelector": {"matchLabels": {"role": "friend"}}, "policyTypes": ["Egress"],
                "egress": [{"ports": ports}]},
        })
    };
    kubectl.create(&egress(json!([{"port": 8080}])));
    eventually("no names without DNS", || {
        (!reaches("friend")).then_some(())
    });
    kubectl.ok(&["delete", "networkpolicy", "out"]);
    kubectl.create(&egress(
        json!([{"port": 8080}, {"port": 53, "protocol": "UDP"}]),
    ));
    eventually("names with DNS", || reaches("friend").then_some(()));

    kubectl.ok(&["delete", "networkpolicy", "friends", "out"]);
    eventually("everybody is answered again", || {
        reaches("stranger").then_some(())
    });
}
