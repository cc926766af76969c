//! Plugins that are small scripts: what they are told, in which order, and what becomes of their answers.

use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cni::{CniNetwork, Error, Folders, Sandbox};
use env::Shutdown;
use serde_json::{Map, Value, json};

/// Writes down how it was called, and answers with a file beside it.
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$0"); me=$(basename "$0")
input=$(cat)
printf '%s %s %s %s %s %s\n' "$CNI_COMMAND" "$me" "$CNI_CONTAINERID" "$CNI_IFNAME" "${CNI_NETNS:-none}" "$CNI_ARGS" >>"$here/../calls"
printf '%s\n' "$input" >>"$here/../inputs"
[ -e "$here/../fail-$CNI_COMMAND-$me" ] && { cat "$here/../fail-$CNI_COMMAND-$me"; echo complaint >&2; exit 1; }
if [ "$CNI_COMMAND" = ADD ]; then
    [ "$(stat -L -c %i "$CNI_NETNS")" = "$(stat -L -c %i /proc/self/ns/net)" ] || exit 3
    cat "$here/../answer-$me"
fi
"#;

struct Node {
    directory: tempfile::TempDir,
    network: CniNetwork,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a scratch folder");
        let network = CniNetwork::open(folders(directory.path())).expect("a scratch folder");
        let node = Self { directory, network };
        for (plugin, address) in [("one", "10.1.0.4/24"), ("two", "10.1.0.5/24")] {
            node.program(plugin, SCRIPT, 0o755);
            let answer = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/n"}],
                "ips": [{"address": address, "interface": 0}], "by": plugin});
            fs::write(node.path(&format!("answer-{plugin}")), answer.to_string())
                .expect("a scratch folder");
        }
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, text: &str, mode: u32) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).expect("a scratch folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a scratch folder");
    }

    fn configure(&self, file: &str, configuration: &Value) {
        let path = self.path("net.d").join(file);
        fs::write(&path, configuration.to_string()).expect("a scratch folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a scratch folder");
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// `ADD one` and so on.
    fn calls(&self) -> Vec<String> {
        let words = |line: &String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        self.lines("calls").iter().map(words).collect()
    }

    async fn attach(&self) -> Result<Vec<String>, Error> {
        self.attach_with(&Map::new()).await
    }

    async fn attach_with(&self, capabilities: &Map<String, Value>) -> Result<Vec<String>, Error> {
        let netns = own_namespace();
        let sandbox = Sandbox {
            pod_uid: "u-1",
            namespace: "d",
            name: "web",
            netns: netns.as_fd(),
            capabilities,
        };
        let addresses = self.network.attach(sandbox).await?;
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    /// What the last plugin that was called was told.
    fn last_input(&self) -> Value {
        let lines = self.lines("inputs");
        serde_json::from_str(lines.last().expect("a call")).expect("JSON")
    }
}

fn own_namespace() -> fs::File {
    fs::File::open("/proc/self/ns/net").expect("a namespace")
}

fn folders(directory: &Path) -> Folders {
    Folders {
        configurations: directory.join("net.d"),
        programs: directory.join("bin"),
        attachments: directory.join("attachments"),
    }
}

fn both(version: &str) -> Value {
    json!({"cniVersion": version, "name": "net", "plugins": [
        {"type": "one", "ipam": {"type": "x"}}, {"type": "two", "capabilities": {"portMappings": true}}]})
}

#[tokio::test]
async fn plugins_add_in_turn_and_take_away_in_reverse_with_the_answer_again() {
    let node = Node::new();
    node.configure("10-net.conflist", &both("1.0.0"));
    assert_eq!(node.attach().await.unwrap(), ["10.1.0.5"]);
    assert_eq!(node.network.existing()[0].0, "u-1");
    // By those that connected it, whatever stands there now.
    node.configure(
        "10-net.conflist",
        &json!({"cniVersion": "1.0.0", "name": "other", "type": "two"}),
    );
    let again = CniNetwork::open(folders(node.directory.path())).unwrap();
    let addresses: Vec<IpAddr> = vec!["10.1.0.5".parse().unwrap()];
    assert_eq!(again.existing(), [("u-1".to_owned(), addresses)]);
    cni::clean_up(&node.path("attachments")).await.unwrap();
    again.detach("u-1").await.unwrap();
    assert!(again.existing().is_empty());
    assert_eq!(node.calls(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
    let calls = node.lines("calls");
    let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=d;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=u-1;K8S_POD_UID=u-1";
    assert!(calls[0].ends_with(arguments), "{calls:?}");
    assert!(calls[0].starts_with("ADD one u-1 eth0 /proc/"), "{calls:?}");
    assert!(calls[2].starts_with("DEL two u-1 eth0 none "), "{calls:?}");
    let inputs = node.lines("inputs");
    let inputs: Vec<Value> = inputs
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        inputs[0],
        json!({"type": "one", "name": "net", "cniVersion": "1.0.0", "ipam": {"type": "x"}})
    );
    assert_eq!(inputs[1]["prevResult"]["by"], "one");
    assert_eq!(inputs[1].get("capabilities"), None);
    assert_eq!(inputs[2]["prevResult"]["by"], "two");
    assert_eq!(inputs[3]["prevResult"]["by"], "two");
}

#[tokio::test]
async fn a_failure_is_told_in_the_plugins_words_and_leaves_nothing() {
    let node = Node::new();
    node.configure("10-net.conflist", &both("0.3.1"));
    let words = json!({"cniVersion": "0.3.1", "code": 11, "msg": "no address is left", "details": "of 10.1.0.0/24"});
    fs::write(node.path("fail-ADD-two"), words.to_string()).unwrap();
    let error = node.attach().await.unwrap_err();
    let Error::Plugin { plugin, source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(plugin, "two");
    assert_eq!(
        source.to_string(),
        "no address is left (code 11): of 10.1.0.0/24"
    );
    assert_eq!(node.calls(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
    assert!(node.network.existing().is_empty());
    // What cannot be taken away stays known and is tried again.
    fs::write(node.path("fail-DEL-one"), "no JSON").unwrap();
    node.attach().await.unwrap_err();
    assert_eq!(node.network.existing()[0].0, "u-1");
    let error = node.network.detach("u-1").await.unwrap_err();
    let Error::Plugin { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.details, "complaint");
    fs::remove_file(node.path("fail-DEL-one")).unwrap();
    node.network.detach("u-1").await.unwrap();
    assert!(node.network.existing().is_empty());
}

#[tokio::test]
async fn a_pod_whose_sandbox_is_made_anew_is_disconnected_first() {
    let node = Node::new();
    node.configure(
        "10-net.conf",
        &json!({"cniVersion": "0.4.0", "name": "net", "type": "one"}),
    );
    node.attach().await.unwrap();
    assert_eq!(node.attach().await.unwrap(), ["10.1.0.4"]);
    assert_eq!(node.calls(), ["ADD one", "DEL one", "ADD one"]);
}

#[tokio::test]
async fn what_cannot_be_trusted_or_used_is_refused_with_the_reason() {
    let node = Node::new();
    let refused = async |why: &str| {
        let error = node.attach().await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    };
    refused("cni plugin not initialized").await;
    for (configuration, why) in [
        (
            json!({"cniVersion": "1.0.0", "name": "net", "plugins": []}),
            "it has 0 plugins",
        ),
        (
            json!({"cniVersion": "0.2.0", "name": "net", "type": "one"}),
            "cniVersion \"0.2.0\" is not supported",
        ),
        (
            json!({"cniVersion": "1.0.0", "name": "net", "type": "../one"}),
            "\"../one\" is no name of a plugin",
        ),
        (
            json!({"cniVersion": "1.0.0", "name": "", "type": "one"}),
            "name \"\" must begin",
        ),
        (
            json!({"cniVersion": "1.0.0", "name": "net"}),
            "missing field `type`",
        ),
        (
            json!({"cniVersion": "1.0.0", "name": "net", "type": "missing"}),
            "missing: ",
        ),
    ] {
        node.configure("10-net.conf", &configuration);
        refused(why).await;
    }
    // Those that can be used count, in the order of their names.
    node.configure(
        "20-net.conf",
        &json!({"cniVersion": "1.0.0", "name": "net", "type": "two"}),
    );
    node.configure("10-net.conf", &json!({"cniVersion": "9"}));
    assert_eq!(node.attach().await.unwrap(), ["10.1.0.5"]);
    node.program("two", SCRIPT, 0o777);
    refused("others than root may write it").await;
    node.program("two", SCRIPT, 0o644);
    refused("it is not executable").await;
    node.program("two", SCRIPT, 0o755);
    fs::write(node.path("answer-two"), "{\"ips\": []}").unwrap();
    refused("it gives eth0 no address").await;
    let path = node.path("net.d/20-net.conf");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o646)).unwrap();
    let error = node.attach().await.unwrap_err();
    assert!(matches!(error, Error::Configuration { .. }), "{error}");
}

#[tokio::test]
async fn a_configuration_that_comes_later_is_found_at_once_and_one_of_1_1_says_whether_it_could() {
    let node = Node::new();
    let mut fault = node.network.fault();
    assert!(
        fault
            .borrow()
            .as_ref()
            .unwrap()
            .starts_with("cni plugin not initialized")
    );
    let (trigger, shutdown) = Shutdown::new();
    let network = node.network.clone();
    let follower = env::spawn(async move { network.follow(shutdown).await });
    let until = async |fault: &mut tokio::sync::watch::Receiver<Option<String>>,
                       wanted: Option<&str>| {
        let is_wanted = |fault: &Option<String>| match wanted {
            None => fault.is_none(),
            Some(text) => fault.as_ref().is_some_and(|fault| fault.contains(text)),
        };
        let waited = fault.wait_for(is_wanted);
        let waited = env::timeout(std::time::Duration::from_secs(20), waited).await;
        drop(waited.expect("in time").expect("the network lives"));
    };
    node.configure("10-net.conflist", &both("1.0.0"));
    until(&mut fault, None).await;
    let words = json!({"code": 50, "msg": "the agent is not up"});
    fs::write(node.path("fail-STATUS-two"), words.to_string()).unwrap();
    node.configure("10-net.conflist", &both("1.1.0"));
    until(&mut fault, Some("the agent is not up (code 50)")).await;
    fs::remove_file(node.path("net.d/10-net.conflist")).unwrap();
    until(&mut fault, Some("cni plugin not initialized")).await;
    trigger.trigger();
    follower.await.unwrap().unwrap();
}

#[tokio::test]
async fn plugins_are_told_what_their_capabilities_ask_for_each_time() {
    let node = Node::new();
    let ports = json!([{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]);
    let known = json!({"portMappings": ports, "bandwidth": {"ingressRate": 1000}});
    let known = known.as_object().expect("a map");
    let configuration = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
        {"type": "one", "capabilities": {"portMappings": false, "dns": true}},
        {"type": "two", "capabilities": {"portMappings": true}, "runtimeConfig": {"dns": {}}}]});
    node.configure("10-net.conflist", &configuration);
    node.attach_with(known).await.unwrap();
    let told: Value = serde_json::from_str(&node.lines("inputs")[0]).unwrap();
    assert_eq!(told.get("runtimeConfig"), None);
    let wanted = json!({"portMappings": ports});
    assert_eq!(node.last_input()["runtimeConfig"], wanted);
    // Also by a process that never saw the pod.
    fs::remove_file(node.path("inputs")).unwrap();
    let again = CniNetwork::open(folders(node.directory.path())).unwrap();
    again.check("u-1", own_namespace().as_fd()).await.unwrap();
    assert_eq!(node.last_input()["runtimeConfig"], wanted);
    again.detach("u-1").await.unwrap();
    let told: Value = serde_json::from_str(&node.lines("inputs")[2]).unwrap();
    assert_eq!(told["runtimeConfig"], wanted);
}

#[tokio::test]
async fn a_connected_pod_is_checked_with_the_answer_of_its_add() {
    let node = Node::new();
    let netns = own_namespace();
    node.network.check("u-1", netns.as_fd()).await.unwrap();
    node.configure("10-net.conflist", &both("1.0.0"));
    node.attach().await.unwrap();
    node.network.check("u-1", netns.as_fd()).await.unwrap();
    assert_eq!(node.calls()[2..], ["CHECK one", "CHECK two"]);
    assert!(node.lines("calls")[2].starts_with("CHECK one u-1 eth0 /proc/"));
    assert_eq!(node.last_input()["prevResult"]["by"], "two");
    let words = json!({"code": 100, "msg": "eth0 is gone"});
    fs::write(node.path("fail-CHECK-one"), words.to_string()).unwrap();
    let error = node.network.check("u-1", netns.as_fd()).await.unwrap_err();
    assert_eq!(error.to_string(), "network plugin one did not CHECK");
    assert_eq!(node.calls().len(), 5, "the others are not asked");
    for (version, more) in [
        ("0.3.1", json!({})),
        ("1.0.0", json!({"disableCheck": true})),
        ("1.0.0", json!({"disableCheck": "true"})),
    ] {
        let mut configuration = both(version);
        let fields = configuration.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        node.configure("10-net.conflist", &configuration);
        node.attach().await.unwrap();
        node.network.check("u-1", netns.as_fd()).await.unwrap();
    }
    let checks = node
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("CHECK"));
    assert_eq!(checks.count(), 3);
}

#[tokio::test]
async fn plugins_of_1_1_take_away_what_no_pod_has_and_all_of_them_are_asked() {
    let node = Node::new();
    node.configure("10-net.conflist", &both("1.1.0"));
    node.attach().await.unwrap();
    fs::write(node.path("fail-GC-one"), "{}").unwrap();
    let follow = async |calls: usize| {
        fs::remove_file(node.path("calls")).unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let network = node.network.clone();
        let follower = env::spawn(async move { network.follow(shutdown).await });
        let done = async {
            while node.calls().len() < calls {
                tokio::task::yield_now().await;
            }
        };
        let done = env::timeout(std::time::Duration::from_secs(20), done).await;
        trigger.trigger();
        follower.await.unwrap().unwrap();
        done.expect("in time");
        node.calls()
    };
    let calls = follow(4).await;
    assert_eq!(calls, ["STATUS one", "STATUS two", "GC one", "GC two"]);
    let valid = json!([{"containerID": "u-1", "ifname": "eth0"}]);
    assert_eq!(node.last_input()["cni.dev/valid-attachments"], valid);
    assert_eq!(node.last_input().get("runtimeConfig"), None);
    let mut configuration = both("1.1.0");
    configuration["disableGC"] = true.into();
    node.configure("10-net.conflist", &configuration);
    assert_eq!(follow(2).await, ["STATUS one", "STATUS two"]);
}

#[tokio::test]
async fn folders_that_were_made_for_plugins_go_unless_somebody_uses_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let folders = Folders {
        configurations: path("etc/cni/net.d"),
        programs: path("opt/cni/bin"),
        attachments: path("attachments"),
    };
    fs::create_dir(path("etc")).unwrap();
    // The second start finds what the first one made.
    for _start in 0..2 {
        drop(CniNetwork::open(folders.clone()).unwrap());
    }
    fs::write(path("opt/mine"), "").unwrap();
    cni::clean_up(&folders.attachments).await.unwrap();
    assert!(!path("etc/cni").exists() && path("etc").exists());
    assert!(!path("opt/cni").exists() && path("opt/mine").exists());
    cni::clean_up(&folders.attachments).await.unwrap();
}
