//! An agent whose only way out is a proxy.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::Test;
use crate::support::nodes::LINK;
use crate::support::objects::{script, with};
use crate::support::server::combo;
use crate::support::{Cluster, Node, Space, eventually};

pub(crate) const TESTS: &[Test] = &[(
    "an_agent_joins_and_is_reached_through_a_proxy_and_told_why_not",
    behind_a_proxy,
)];

const PORT: u16 = 3128;
const LOCAL_PORT: &str = "6444";
/// `user:p@ss`
const PASSWORD: &str = "Basic dXNlcjpwQHNz";
const AGENT: &str = "inside";

/// A proxy that knows one user. It notes whom it was asked to connect to.
#[derive(Clone, Default)]
struct Proxy {
    asked_for: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Serves until the test ends.
    fn start(cluster: &Cluster) -> Self {
        let place = &cluster.server.place;
        let address = SocketAddr::new(place.address.parse().unwrap(), PORT);
        let (proxy, itself) = (Self::default(), address.ip());
        let serving = proxy.clone();
        // Threads stay in the network of the one that began them.
        place.inside(|| {
            let listener = TcpListener::bind(address).unwrap();
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let serving = serving.clone();
                    std::thread::spawn(move || serving.serve(client, itself));
                }
            });
        });
        proxy
    }

    /// Connects who has the password with what is on the proxy's own machine.
    fn serve(&self, mut client: TcpStream, itself: IpAddr) -> io::Result<()> {
        let mut head = String::new();
        let mut reader = BufReader::new(client.try_clone()?);
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.asked_for.lock().unwrap().push(target.clone());
        if !head.contains(PASSWORD) {
            return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        }
        if !target.starts_with(&itself.to_string()) {
            return client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
        }
        let server = TcpStream::connect(target)?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
        std::thread::spawn(move || copy(from_client, to_server));
        copy(server, client);
        Ok(())
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}

fn behind_a_proxy() {
    let mut cluster = Cluster::start("proxied", &[], &[]);
    let flags = ["--agent-http-proxy-allowed", "--lb-server-port", LOCAL_PORT];
    cluster.prepare_agent(AGENT, &flags);
    let (cluster, node) = (&cluster, cluster.agent(AGENT));
    // Nothing but the proxy is reached on the server's machine.
    node.place.ok(&format!(
        "nft add table inet wall
        nft add chain inet wall output '{{ type filter hook output priority -300; }}'
        nft add rule inet wall output oifname {LINK} tcp dport != {PORT} tcp flags '& (syn | ack) == syn' reject"
    ));
    let proxy = Proxy::start(cluster);
    let address = &cluster.server.place.address;
    for (user, told) in [
        ("", "it wants to know who asks"),
        ("user:wrong@", "it does not know this user and password"),
    ] {
        let variable = format!("http://{user}{address}:{PORT}");
        node.run_with(&[("HTTPS_PROXY", &variable)]);
        says(node, told);
        node.end();
    }
    let variable = format!("http://user:p%40ss@{address}:{PORT}");
    node.run_with(&[("HTTPS_PROXY", &variable), ("NO_PROXY", address)]);
    // The wall's answer to who comes straight.
    says(node, "(os error 111)");
    node.end();
    assert_eq!(cluster.kubectl().find("node", AGENT), None);

    node.run_with(&[("HTTPS_PROXY", &variable)]);
    cluster.wait_ready(node);
    let space = Space::through(cluster.kubectl(), "proxied");
    let pod = script("pod", "echo begun; while :; do sleep 1; done");
    let on_node = json!({"spec": {"nodeName": AGENT}});
    space.kubectl.start_pod(&with(pod, &on_node));
    assert_eq!(space.kubectl.logs("pod"), "begun\n");
    assert_eq!(space.kubectl.sh("pod", "hostname"), "pod\n");
    reaches_servers_through_the_local_port(cluster, node);
    let asked_for = proxy.asked_for.lock().unwrap().clone();
    let server = format!("{address}:6443");
    assert!(
        asked_for.iter().all(|target| *target == server),
        "{asked_for:?}"
    );
    let log = node.log();
    assert!(
        !log.contains("p%40ss") && !log.contains("p@ss"),
        "a password is not shown"
    );
    drop(space);
    cluster.tear_down();
}

/// A tool on the agent's machine, which has no other way.
fn reaches_servers_through_the_local_port(cluster: &Cluster, node: &Node) {
    let file = node.data_dir.with_extension("kubeconfig");
    let server = format!("https://127.0.0.1:{LOCAL_PORT}");
    let mut command = Command::new(combo());
    command
        .args(["kubeconfig", "--server", &server, "--output"])
        .arg(&file);
    let done = command
        .arg("-d")
        .arg(&cluster.server.data_dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let kubectl = node.place.kubectl(&file);
    assert_eq!(kubectl.get("node", AGENT)["metadata"]["name"], AGENT);
}

fn says(node: &Node, what: &str) {
    eventually(&format!("{what:?} from the agent"), || {
        node.log().contains(what).then_some(())
    });
}
