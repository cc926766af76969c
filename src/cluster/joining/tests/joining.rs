//! A server's service and an agent's folder, face to face over an API in memory.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use env::{ManualClock, SeededRng, Timestamp};
use joining::bootstrap_token::{BootstrapToken, NAMESPACE};
use joining::{
    AuthorityHash, ClusterSettings, IdentityFolder, JoinAnswer, JoinError, JoinService, JoinToken,
    NodeSigner, Parts, Role, ServerTokens, authorization, join_request,
};
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_client::Client;
use kube_client::fake::FakeApi;
use pki::{CertificateAuthority, CertificateInfo, decode_pem};

const NODE: &str = "edge-1";
const LIFE: Duration = Duration::from_hours(24);
const AGENT_PASSWORD: &str = "agents-only";

struct Server {
    service: JoinService,
    client: Client,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

fn peer() -> IpAddr {
    IpAddr::from([10, 0, 0, 7])
}

fn server() -> Server {
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    let clock = ManualClock::at(now);
    let rng = SeededRng::shared(3);
    let authority = |name: &str| {
        CertificateAuthority::generate(name, now, LIFE * 3650, &*rng).expect("an authority")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = ServerTokens {
        server: folder.path().join("token"),
        agent: folder.path().join("agent-token"),
    };
    let servers = authority("servers");
    let pin = AuthorityHash::of_pem(&servers.root_pem());
    tokens
        .write(Role::Server, pin, "servers-only")
        .expect("written");
    tokens
        .write(Role::Agent, pin, AGENT_PASSWORD)
        .expect("written");
    let client = FakeApi::new(clock.clone()).client();
    let parts = Parts {
        client: client.clone(),
        tokens,
        signer: NodeSigner {
            clients: authority("clients"),
            servers,
            life: LIFE,
        },
        reserved_names: vec!["kubernetes".to_owned()],
        settings: ClusterSettings {
            cluster_cidrs: vec!["10.42.0.0/16".parse().expect("a range")],
            service_cidrs: vec!["10.43.0.0/16".parse().expect("a range")],
            cluster_dns: vec![IpAddr::from([10, 43, 0, 10])],
            cluster_domain: "cluster.local".to_owned(),
            certificate_seconds: LIFE.as_secs(),
            overlay: "vxlan".to_owned(),
            dns_disabled: false,
            network_policy_disabled: false,
            embedded_registry: false,
        },
        servers: Arc::new(|| vec!["10.0.0.1:6443".to_owned()]),
        clock: clock.clone(),
        rng,
    };
    Server {
        service: JoinService::new(parts),
        client,
        clock,
        _folder: folder,
    }
}

fn header(token: &str) -> String {
    let token: JoinToken = token.parse().expect("a token");
    authorization(&token.secret)
}

struct Agent(tempfile::TempDir);

impl Agent {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn folder(&self) -> IdentityFolder {
        IdentityFolder::at(self.0.path())
    }

    async fn join(
        &self,
        server: &Server,
        token: Option<&str>,
        replace: bool,
    ) -> Result<JoinAnswer, JoinError> {
        let key = self.folder().key().expect("a key");
        let request = join_request(NODE, &[peer()], &key, replace).expect("a request");
        let body = serde_json::to_vec(&request).expect("JSON");
        let header = token.map(header);
        server.service.join(header.as_deref(), peer(), &body).await
    }
}

async fn set_ready(server: &Server, ready: &str) {
    let nodes = server.client.api::<Node>("");
    let node = Node {
        metadata: ObjectMeta {
            name: Some(NODE.to_owned()),
            ..ObjectMeta::default()
        },
        status: Some(NodeStatus {
            conditions: Some(vec![NodeCondition {
                type_: "Ready".to_owned(),
                status: ready.to_owned(),
                ..NodeCondition::default()
            }]),
            ..NodeStatus::default()
        }),
        ..Node::default()
    };
    if nodes.get_optional(NODE).await.expect("answered").is_none() {
        nodes.create(&node).await.expect("created");
    } else {
        nodes.update_status(&node).await.expect("updated");
    }
}

#[tokio::test]
async fn a_node_joins_and_what_it_keeps_is_enough_for_the_next_start() {
    let (server, agent) = (server(), Agent::new());
    let answer = agent
        .join(&server, Some(AGENT_PASSWORD), false)
        .await
        .expect("joined");
    let kept = agent.folder().keep(NODE, &answer).expect("kept");
    let loaded = agent.folder().load(NODE).expect("readable").expect("whole");
    assert_eq!(loaded.client_certificate, kept.client_certificate);
    assert_eq!(loaded.settings, answer.settings);
    let leaf = &decode_pem("CERTIFICATE", &answer.serving_certificate)[0];
    let info = CertificateInfo::from_der(leaf).expect("a certificate");
    assert_eq!(info.dns_names, [NODE]);
    assert_eq!(info.addresses, [peer()]);
    assert_eq!(loaded.renew_after(server.clock_now()), LIFE / 3 * 2);
    assert!(agent.folder().load("another").expect("readable").is_none());
}

impl Server {
    fn clock_now(&self) -> Timestamp {
        env::Clock::now(&*self.clock)
    }
}

#[tokio::test]
async fn a_wrong_token_joins_nobody_and_a_bound_key_needs_none() {
    let (server, agent) = (server(), Agent::new());
    for wrong in ["guess", "abcdef.0123456789abcdef"] {
        let refused = agent.join(&server, Some(wrong), false).await;
        let error = refused.expect_err("refused");
        assert_eq!(error.to_api_error().code, 401, "{error}");
    }
    let refused = agent.join(&server, None, false).await.expect_err("refused");
    assert_eq!(refused.to_api_error().code, 401, "{refused}");
    agent
        .join(&server, Some(AGENT_PASSWORD), false)
        .await
        .expect("joined");
    // Years later, with nothing but the key.
    server.clock.advance(LIFE * 800);
    agent.join(&server, None, false).await.expect("renewed");
}

#[tokio::test]
async fn a_name_is_taken_over_only_when_nobody_lives_there() {
    let (server, first, second) = (server(), Agent::new(), Agent::new());
    first
        .join(&server, Some(AGENT_PASSWORD), false)
        .await
        .expect("joined");
    set_ready(&server, "True").await;
    let taken = second
        .join(&server, Some(AGENT_PASSWORD), false)
        .await
        .expect_err("taken");
    assert_eq!(taken.to_api_error().code, 403);
    assert!(taken.to_string().contains("--replace"), "{taken}");
    assert!(
        taken
            .to_string()
            .contains("kubectl -n kube-system delete secret edge-1.node-key"),
        "{taken}"
    );
    let alive = second
        .join(&server, Some(AGENT_PASSWORD), true)
        .await
        .expect_err("alive");
    assert!(alive.to_string().contains("is Ready"), "{alive}");
    set_ready(&server, "Unknown").await;
    second
        .join(&server, Some(AGENT_PASSWORD), true)
        .await
        .expect("replaced");
    let late = first
        .join(&server, None, false)
        .await
        .expect_err("its key is nobody's now");
    assert_eq!(late.to_api_error().code, 401);
}

#[tokio::test]
async fn bootstrap_tokens_join_until_their_end() {
    let (server, agent) = (server(), Agent::new());
    let token = BootstrapToken::generate(server.clock_now(), Some(LIFE), &*SeededRng::shared(5));
    let text = format!("{}.{}", token.id, token.secret);
    let secrets = server.client.api::<Secret>(NAMESPACE);
    secrets.create(&token.to_secret()).await.expect("created");
    agent
        .join(&server, Some(&text), false)
        .await
        .expect("joined");
    server.clock.advance(LIFE);
    let late = Agent::new()
        .join(&server, Some(&text), false)
        .await
        .expect_err("ended");
    assert!(late.to_string().contains("expired"), "{late}");
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() {
    let server = server();
    for body in ["", "{}", "[]", "{\"node\":1}"] {
        let refused = server.service.join(None, peer(), body.as_bytes()).await;
        let error = refused.expect_err("refused");
        assert_eq!(error.to_api_error().code, 400, "{body}: {error}");
    }
}

#[tokio::test]
async fn what_a_power_cut_left_is_as_good_as_nothing() {
    let (server, agent) = (server(), Agent::new());
    let answer = agent
        .join(&server, Some(AGENT_PASSWORD), false)
        .await
        .expect("joined");
    agent.folder().keep(NODE, &answer).expect("kept");
    let damage = |file: &str, text: &str| {
        std::fs::write(Path::new(agent.0.path()).join(file), text).expect("written");
    };
    for file in ["client-kubelet.crt", "cluster.json", "server-ca.crt"] {
        damage(file, "");
        assert!(
            agent.folder().load(NODE).expect("readable").is_none(),
            "{file}"
        );
        agent.folder().keep(NODE, &answer).expect("kept");
    }
    damage("node.key", "nonsense");
    assert!(agent.folder().load(NODE).is_err());
}
