//! Bodies that nobody should send: each gets its clear answer, and others are answered as before.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::Test;
use crate::support::http::{Answer, answer};
use crate::support::objects::config_map;
use crate::support::shared;

pub(crate) const TESTS: &[Test] = &[
    ("malformed_json_is_a_bad_request", malformed_json),
    ("truncated_json_is_a_bad_request", truncated_json),
    ("oversized_json_is_too_large", oversized_json),
    ("deeply_nested_json_is_a_bad_request", nested_json),
    ("malformed_yaml_is_a_bad_request", malformed_yaml),
    ("truncated_yaml_is_a_bad_request", truncated_yaml),
    ("oversized_yaml_is_too_large", oversized_yaml),
    ("deeply_nested_yaml_is_a_bad_request", nested_yaml),
    ("an_alias_bomb_in_yaml_is_a_bad_request", yaml_bomb),
    ("malformed_protobuf_is_a_bad_request", malformed_protobuf),
    ("truncated_protobuf_is_a_bad_request", truncated_protobuf),
    ("oversized_protobuf_is_too_large", oversized_protobuf),
    ("deeply_nested_protobuf_is_a_bad_request", nested_protobuf),
    ("a_type_that_nobody_speaks_is_told", unknown_type),
    ("a_body_that_ends_early_disturbs_nobody", cut_off),
    ("patches_are_held_to_the_same_limits", patches),
    ("hostile_selectors_and_paths_are_bad_requests", queries),
];

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// The largest body: 3 MiB, as upstream has it.
const BODY_BYTES_MAX: usize = 3 << 20;
const NESTED: usize = 100_000;
/// A normal request must be answered in this time, whatever others do.
pub(crate) const NORMAL: Duration = Duration::from_secs(2);

/// A normal request still gets its answer at once.
pub(crate) fn nothing_else_suffers() {
    let begun = Instant::now();
    let answer = shared()
        .http()
        .get("/api/v1/namespaces/default")
        .expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(
        begun.elapsed() < NORMAL,
        "a normal request took {:?}",
        begun.elapsed()
    );
}

/// Sends a body that must be refused with this status; the text says why.
fn refused(content_type: &str, body: &[u8], status: u16, reason: &str) -> String {
    refused_answer(
        &shared().http().post(CONFIG_MAPS, content_type, body),
        status,
        reason,
    )
}

pub(crate) fn refused_answer(answer: &Answer, status: u16, reason: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    let said = answer.json();
    assert_eq!(
        (said["kind"].as_str(), said["status"].as_str()),
        (Some("Status"), Some("Failure")),
        "{said}"
    );
    assert_eq!(said["reason"].as_str(), Some(reason), "{said}");
    assert_eq!(said["code"], status, "{said}");
    let message = said["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        !message.is_empty() && message.len() < 4096,
        "a clear message: {} bytes",
        message.len()
    );
    nothing_else_suffers();
    message
}

fn object() -> Vec<u8> {
    config_map("bad-body", "key", "value")
        .to_string()
        .into_bytes()
}

fn malformed_json() {
    for body in [
        "{",
        "]",
        "nothing",
        "{\"kind\":\"ConfigMap\",}",
        "{\"a\" 1}",
        "\u{0}",
        "\"text\"",
        "[]",
    ] {
        refused(JSON, body.as_bytes(), 400, "BadRequest");
    }
    refused(JSON, &[0xff, 0xfe, b'{', b'}'], 400, "BadRequest");
    refused(JSON, b"", 400, "BadRequest");
}

fn truncated_json() {
    let whole = object();
    for length in [1, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        refused(JSON, &whole[..length], 400, "BadRequest");
    }
}

/// A ConfigMap of this many bytes of text.
fn large(bytes: usize) -> Vec<u8> {
    config_map("bad-body", "key", &"x".repeat(bytes))
        .to_string()
        .into_bytes()
}

fn oversized_json() {
    let message = refused(JSON, &large(BODY_BYTES_MAX), 413, "RequestEntityTooLarge");
    assert!(message.contains("limit is 3145728"), "{message}");
    refused(JSON, &large(20 << 20), 413, "RequestEntityTooLarge");
}

fn nested_json() {
    let lists = format!(
        "{{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"data\":{}{}}}",
        "[".repeat(NESTED),
        "]".repeat(NESTED)
    );
    refused(JSON, lists.as_bytes(), 400, "BadRequest");
    let maps = format!("{}1{}", "{\"a\":".repeat(NESTED), "}".repeat(NESTED));
    refused(JSON, maps.as_bytes(), 400, "BadRequest");
    refused(JSON, "[".repeat(NESTED).as_bytes(), 400, "BadRequest");
}

fn malformed_yaml() {
    for body in [
        "kind: [",
        "kind: ConfigMap\n\tdata: x",
        "a: b: c",
        "&",
        "%YAML 9",
        "- - -",
    ] {
        refused(YAML, body.as_bytes(), 400, "BadRequest");
    }
    refused(YAML, &[b'a', b':', b' ', 0xff], 400, "BadRequest");
}

fn truncated_yaml() {
    refused(
        YAML,
        b"kind: ConfigMap\napiVersion: v1\nmetadata: {name: bad-bo",
        400,
        "BadRequest",
    );
    refused(
        YAML,
        b"kind: ConfigMap\napiVersion: v1\ndata: {key: \"val",
        400,
        "BadRequest",
    );
}

fn oversized_yaml() {
    let mut body =
        String::from("kind: ConfigMap\napiVersion: v1\nmetadata: {name: bad-body}\ndata:\n  key: ");
    body.push_str(&"x".repeat(BODY_BYTES_MAX));
    refused(YAML, body.as_bytes(), 413, "RequestEntityTooLarge");
}

fn nested_yaml() {
    refused(
        YAML,
        format!("data: {}{}", "[".repeat(NESTED), "]".repeat(NESTED)).as_bytes(),
        400,
        "BadRequest",
    );
    let mut deep = String::new();
    for depth in 0..2000 {
        writeln!(deep, "{}a:", " ".repeat(depth % 1500)).expect("a string takes it");
    }
    refused(YAML, deep.as_bytes(), 400, "BadRequest");
}

fn yaml_bomb() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{aliases}]").expect("a string takes it");
    }
    bomb.push_str(
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: bad-body}\ndata: {key: *a11}\n",
    );
    let begun = Instant::now();
    refused(YAML, bomb.as_bytes(), 400, "BadRequest");
    assert!(begun.elapsed() < NORMAL * 2, "{:?}", begun.elapsed());
}

/// A field of protobuf with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("seven bits"));
    out.extend(bytes);
    out
}

/// The envelope of Kubernetes around a message: `runtime.Unknown`.
fn envelope(raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    [b"k8s\0".to_vec(), field(1, &meta), field(2, raw)].concat()
}

fn protobuf_object(value: &[u8]) -> Vec<u8> {
    let entry = [field(1, b"key"), field(2, value)].concat();
    envelope(&[field(1, &field(1, b"bad-body")), field(2, &entry)].concat())
}

fn malformed_protobuf() {
    let wrong: [&[u8]; 5] = [
        b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"k8s\0",
        b"not protobuf",
        b"k8s",
        &[0; 64],
    ];
    for body in wrong {
        refused(PROTOBUF, body, 400, "BadRequest");
    }
    // The length of a field runs past the end; a group that never ends; a field with number 0.
    for raw in [
        &b"\x0a\xff\xff\xff\xff\x0f"[..],
        b"\x0b\x0b\x0b",
        b"\x00\x01",
    ] {
        refused(PROTOBUF, &envelope(raw), 400, "BadRequest");
    }
}

fn truncated_protobuf() {
    let whole = protobuf_object(b"value");
    for length in [5, whole.len() / 2, whole.len() - 1] {
        refused(PROTOBUF, &whole[..length], 400, "BadRequest");
    }
}

fn oversized_protobuf() {
    refused(
        PROTOBUF,
        &protobuf_object(&vec![b'x'; BODY_BYTES_MAX]),
        413,
        "RequestEntityTooLarge",
    );
}

/// `JSONSchemaProps.not` in a CustomResourceDefinition holds itself: the one place where protobuf nests without end.
fn nested_protobuf() {
    const DEPTH: usize = 20_000;
    let mut schema = Vec::new();
    for _level in 0..DEPTH {
        // Field 26 of JSONSchemaProps is `not`: its key takes two bytes.
        let inner = std::mem::take(&mut schema);
        let mut with_length = field(1, &inner);
        with_length.splice(0..1, [0xd2, 0x01]);
        schema = with_length;
    }
    let version = field(4, &field(1, &schema));
    let meta = [
        field(1, b"apiextensions.k8s.io/v1"),
        field(2, b"CustomResourceDefinition"),
    ]
    .concat();
    let spec = field(2, &field(7, &version));
    let body = [b"k8s\0".to_vec(), field(1, &meta), field(2, &spec)].concat();
    assert!(body.len() < BODY_BYTES_MAX, "{}", body.len());
    let answer = shared().http().post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        PROTOBUF,
        &body,
    );
    refused_answer(&answer, 400, "BadRequest");
}

fn unknown_type() {
    let message = refused("text/plain", &object(), 415, "UnsupportedMediaType");
    assert!(
        message.contains("the body of the request was in an unknown format"),
        "{message}"
    );
}

fn cut_off() {
    let body = object();
    for length in [0, body.len() / 2] {
        let mut stream = shared().http().connect().expect("a connection");
        let head = format!(
            "POST {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(&body[..length]).expect("sent");
        stream.flush().expect("sent");
        stream.conn.send_close_notify();
        stream.flush().expect("sent");
        stream
            .sock
            .shutdown(std::net::Shutdown::Write)
            .expect("half closed");
        if let Ok(answer) = answer(&mut stream) {
            assert_eq!(answer.status, 400, "{}", answer.text());
        }
        nothing_else_suffers();
    }
    assert!(shared().kubectl().find("configmap", "bad-body").is_none());
}

fn patches() {
    let http = shared().http();
    let path = format!("{CONFIG_MAPS}/kube-root-ca.crt");
    let patch = |content_type: &str, body: &[u8], status: u16, reason: &str| {
        let answer = http
            .send(
                "PATCH",
                &format!("{path}?fieldManager=test"),
                content_type,
                body,
            )
            .expect("an answer");
        refused_answer(&answer, status, reason);
    };
    let merge = "application/merge-patch+json";
    patch(merge, b"{", 400, "BadRequest");
    patch(merge, &large(BODY_BYTES_MAX), 413, "RequestEntityTooLarge");
    patch(
        merge,
        format!("{}1{}", "{\"a\":".repeat(NESTED), "}".repeat(NESTED)).as_bytes(),
        400,
        "BadRequest",
    );
    patch(
        "application/strategic-merge-patch+json",
        b"nothing",
        400,
        "BadRequest",
    );
    patch("application/json-patch+json", b"{}", 400, "BadRequest");
    let operations = vec![r#"{"op":"test","path":"/data","value":1}"#; 10_001].join(",");
    patch(
        "application/json-patch+json",
        format!("[{operations}]").as_bytes(),
        413,
        "RequestEntityTooLarge",
    );
    patch("application/apply-patch+yaml", b"a: [", 400, "BadRequest");
}

fn queries() {
    let http = shared().http();
    for query in [
        "labelSelector=%21%21",
        "fieldSelector=a%21",
        "limit=x",
        "continue=nonsense",
        "resourceVersion=x",
        "timeoutSeconds=x",
    ] {
        let answer = http
            .get(&format!("{CONFIG_MAPS}?{query}"))
            .expect("an answer");
        assert!(
            (400..500).contains(&answer.status),
            "{query}: {} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(answer.json()["kind"], "Status", "{query}");
    }
    let long = http.get(&format!(
        "{CONFIG_MAPS}?labelSelector={}",
        "x".repeat(1 << 20)
    ));
    assert!(
        long.is_ok_and(|answer| (400..500).contains(&answer.status)),
        "a request line of a megabyte"
    );
    nothing_else_suffers();
}
