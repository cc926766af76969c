//! Whoever asks to be a node is looked at closely: nothing that is not the asker's own is signed, and nothing else suffers.

use std::fs;

use joining::{JoinRequest, JoinToken, authorization, join_request, network_subject, node_subject};
use pki::{CertificateRequest, KeyPair, Subject, SubjectNames};
use serde_json::{Value, json};

use crate::Test;
use crate::bad_bodies::refused_answer;
use crate::support::http::{Answer, Http};
use crate::support::shared;

pub(crate) const TESTS: &[Test] = &[
    ("bodies_that_are_no_join_requests_are_refused", bodies),
    ("requests_for_foreign_names_are_refused", foreign_names),
    (
        "a_token_holder_gets_no_certificate_of_another_node",
        foreign_nodes,
    ),
    ("only_nodes_open_tunnels", tunnels),
];

const JOIN: &str = "/v1-combo/join";
const CONNECT: &str = "/v1-combo/connect";
const NODE: &str = "bad-join";

/// Asks as somebody with this token.
fn holder(token: &str) -> Http {
    let token: JoinToken = token.parse().unwrap();
    shared()
        .http()
        .with_authorization(&authorization(&token.secret))
}

fn agent_token() -> String {
    fs::read_to_string(shared().data_dir.join("server/agent-token")).unwrap()
}

fn ask(body: &[u8]) -> Answer {
    holder(&agent_token()).post(JOIN, "application/json", body)
}

fn bytes(request: &JoinRequest) -> Vec<u8> {
    serde_json::to_vec(request).unwrap()
}

fn request(node: &str, key: &KeyPair) -> JoinRequest {
    join_request(node, &[], key, false).unwrap()
}

fn csr(subject: &Subject, dns_names: &[&str], key: &KeyPair) -> String {
    let names = SubjectNames {
        dns_names: dns_names.iter().map(|&name| name.to_owned()).collect(),
        addresses: Vec::new(),
    };
    CertificateRequest::create(subject, &names, key).unwrap()
}

fn bodies() {
    let whole = bytes(&request(NODE, &KeyPair::generate().unwrap()));
    let mut bodies = vec![
        Vec::new(),
        b"nothing".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        vec![0xff; 100],
        "[".repeat(60_000).into_bytes(),
        "{\"node\":".repeat(5_000).into_bytes(),
    ];
    bodies.extend([1, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec()));
    for body in bodies {
        refused_answer(&ask(&body), 400, "BadRequest");
    }
    let large = json!({"node": "x".repeat(100_000)}).to_string();
    refused_answer(&ask(large.as_bytes()), 413, "RequestEntityTooLarge");
    // Every part of a request that is a text can be any text.
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    for field in ["clientRequest", "servingRequest", "networkRequest"] {
        let text = whole[field].as_str().unwrap();
        let middle = text.len() / 2;
        let damaged = [
            String::new(),
            "-----BEGIN CERTIFICATE REQUEST-----".to_owned(),
            text[..middle].to_owned(),
            format!("{}AAAA{}", &text[..middle], &text[middle + 4..]),
        ];
        for damaged in &damaged {
            let mut asked = whole.clone();
            asked[field] = json!(damaged);
            let said = refused_answer(&ask(asked.to_string().as_bytes()), 400, "BadRequest");
            assert!(said.contains("request cannot be used"), "{said}");
        }
    }
    assert_eq!(shared().kubectl().find("node", NODE), None);
}

fn foreign_names() {
    let key = KeyPair::generate().unwrap();
    let own = node_subject(NODE);
    let masters = Subject::new(&own.common_name, &["system:nodes", "system:masters"]);
    let change = |change: &dyn Fn(&mut JoinRequest)| {
        let mut asked = request(NODE, &key);
        change(&mut asked);
        refused_answer(&ask(&bytes(&asked)), 400, "BadRequest")
    };
    for (subject, names) in [
        (&node_subject("other"), &[][..]),
        (&masters, &[]),
        (&Subject::new("system:admin", &["system:masters"]), &[]),
        (&network_subject(), &[]),
        (&Subject::default(), &[]),
        (&own, &["kubernetes.default.svc"]),
        (&own, &[NODE, "other"]),
    ] {
        let said = change(&|asked| asked.client_request = csr(subject, names, &key));
        let is_told = said.contains("may ask for") || said.contains("not the node's own");
        assert!(is_told, "{said}");
        let said =
            change(&|asked| asked.serving_request = csr(subject, &[&[NODE], names].concat(), &key));
        let is_told = names.is_empty() || said.contains("not the node's own");
        assert!(is_told, "{said}");
        change(&|asked| asked.network_request = csr(&masters, names, &key));
    }
    let other = KeyPair::generate().unwrap();
    let said = change(&|asked| asked.serving_request = csr(&own, &[NODE], &other));
    assert!(said.contains("different keys"), "{said}");
    for name in [
        "",
        "Upper",
        "a/b",
        "..",
        "x".repeat(300).as_str(),
        "kubernetes",
        "localhost",
    ] {
        let asked = JoinRequest {
            node: name.to_owned(),
            ..request(NODE, &key)
        };
        refused_answer(&ask(&bytes(&asked)), 400, "BadRequest");
    }
    assert_eq!(shared().kubectl().find("node", NODE), None);
}

fn foreign_nodes() {
    let server = shared();
    let living = format!("node-{}", server.name);
    let thief = KeyPair::generate().unwrap();
    for replaces in [false, true] {
        let asked = join_request(&living, &[], &thief, replaces).unwrap();
        let said = refused_answer(&ask(&bytes(&asked)), 403, "Forbidden");
        assert!(said.contains("another key"), "{said}");
        // Without a token, and with one that is none.
        let asked = bytes(&asked);
        let wrong = [
            server.http().post(JOIN, "application/json", &asked),
            holder("wrong").post(JOIN, "application/json", &asked),
            holder("abcdef.0123456789abcdef").post(JOIN, "application/json", &asked),
            server
                .http()
                .with_authorization("Digest x")
                .post(JOIN, "application/json", &asked),
        ];
        let statuses = wrong.map(|answer| answer.status);
        assert_eq!(statuses, [401, 401, 401, 400]);
    }
}

fn tunnels() {
    let server = shared();
    // The administrator is no node, and a token is no identity at the API.
    let said = refused_answer(&server.http().get(CONNECT).unwrap(), 403, "Forbidden");
    assert!(said.contains("only a node may open a tunnel"), "{said}");
    let posted = server.http().post(CONNECT, "application/json", b"{}");
    refused_answer(&posted, 400, "BadRequest");
}
