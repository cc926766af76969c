//! A machine with a cluster DNS, a client, and an upstream resolver that can be started.

use dns::{Config, Dns};
use env::{Shutdown, SystemClock};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use linux::NetworkNamespace;
use linux::netlink::route::RouteSocket;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);

pub(crate) struct Machine {
    server: SocketAddr,
    records: Arc<parking_lot::RwLock<dns::Records>>,
    resolv_conf: PathBuf,
    ids: AtomicU16,
    runtime: tokio::runtime::Runtime,
}

/// A response in texts.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) code: ResponseCode,
    pub(crate) question: String,
    pub(crate) answers: Vec<String>,
    pub(crate) authorities: Vec<String>,
    pub(crate) additionals: Vec<String>,
    pub(crate) is_truncated: bool,
    pub(crate) bytes: usize,
}

pub(crate) fn on_a_machine(test: impl FnOnce(&Machine) + Send) {
    let namespace = NetworkNamespace::create().unwrap();
    namespace
        .run(|| {
            let mut socket = RouteSocket::open().unwrap();
            let loopback = socket.link_named("lo").unwrap().unwrap().index;
            socket.set_link_up(loopback).unwrap();
            let folder = tempfile::tempdir().unwrap();
            test(&Machine::new(folder.path().join("resolv.conf")));
        })
        .unwrap();
}

impl Machine {
    fn new(resolv_conf: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let config = Config {
            cluster_domain: "cluster.local".to_owned(),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            service_addresses: vec!["10.43.0.2".parse().unwrap()],
            resolv_conf: resolv_conf.clone(),
        };
        let dns = runtime
            .block_on(Dns::bind(config, SystemClock::shared()))
            .unwrap();
        let (server, records) = (dns.local_addresses()[0], dns.records());
        let (trigger, shutdown) = Shutdown::new();
        records.write().complete();
        // The trigger lives as long as the task.
        runtime.spawn(async move {
            dns.run(shutdown).await;
            drop(trigger);
        });
        Self {
            server,
            records,
            resolv_conf,
            ids: AtomicU16::new(1),
            runtime,
        }
    }

    /// The server's records, taken back to the moment of its start.
    pub(crate) fn incomplete_records(&self) -> Arc<parking_lot::RwLock<dns::Records>> {
        *self.records.write() = dns::Records::new();
        Arc::clone(&self.records)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn put_namespace(&self, name: &str) {
        self.records.write().put_namespace(name);
    }

    pub(crate) fn put_service(&self, name: &str, spec: &Value) {
        let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
        self.records
            .write()
            .put_service(&serde_json::from_value(object).unwrap());
    }

    pub(crate) fn put_slice(&self, service: &str, name: &str, slice: &Value) {
        let mut object = slice.clone();
        object["addressType"] = json!("IPv4");
        object["metadata"] = json!({"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": service}});
        self.records
            .write()
            .put_slice(&serde_json::from_value(object).unwrap());
    }

    pub(crate) fn remove_slice(&self, name: &str) {
        self.records.write().remove_slice("default", name);
    }

    /// Writes the machine's `resolv.conf`; an empty address writes a file without a resolver.
    pub(crate) fn use_resolver(&self, address: &str) {
        let line = if address.is_empty() {
            "# nobody".to_owned()
        } else {
            format!("nameserver {address}")
        };
        std::fs::write(&self.resolv_conf, line).unwrap();
    }

    pub(crate) fn ask(&self, name: &str, kind: RecordType) -> Response {
        self.send(&self.query(name, kind).to_vec().unwrap())
            .expect("an answer")
    }

    pub(crate) fn ask_with_limit(&self, name: &str, kind: RecordType, limit: u16) -> Response {
        let mut query = self.query(name, kind);
        let mut edns = Edns::new();
        edns.set_max_payload(limit);
        query.set_edns(edns);
        self.send(&query.to_vec().unwrap()).expect("an answer")
    }

    pub(crate) fn ask_tcp(&self, name: &str, kind: RecordType) -> Response {
        let query = self.query(name, kind).to_vec().unwrap();
        let mut stream = TcpStream::connect(self.server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(&u16::try_from(query.len()).unwrap().to_be_bytes())
            .unwrap();
        stream.write_all(&query).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut response = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut response).unwrap();
        read(&response)
    }

    /// Sends bytes over UDP; nothing if there is no answer.
    pub(crate) fn send(&self, bytes: &[u8]) -> Option<Response> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.server).unwrap();
        let is_question = bytes.len() > 12 && bytes[2] & 0x80 == 0;
        socket
            .set_read_timeout(Some(if is_question { PATIENCE } else { SILENCE }))
            .unwrap();
        socket.send(bytes).unwrap();
        let mut buffer = vec![0; 65_535];
        let length = socket.recv(&mut buffer).ok()?;
        Some(read(&buffer[..length]))
    }

    fn query(&self, name: &str, kind: RecordType) -> Message {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut query = Message::new(id, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        query
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let placeholder = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        std::mem::replace(&mut self.runtime, placeholder).shutdown_background();
    }
}

/// A message that is no question.
pub(crate) fn update() -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Update);
    message.add_query(Query::query(
        Name::from_ascii("cluster.local.").unwrap(),
        RecordType::SOA,
    ));
    message.to_vec().unwrap()
}

fn read(bytes: &[u8]) -> Response {
    let message = Message::from_vec(bytes).unwrap();
    let texts = |records: &[Record]| {
        records
            .iter()
            .map(|record| record.data.to_string())
            .collect()
    };
    Response {
        code: message.metadata.response_code,
        question: message
            .queries
            .first()
            .map(|query| query.name().to_ascii())
            .unwrap_or_default(),
        answers: texts(&message.answers),
        authorities: texts(&message.authorities),
        additionals: texts(&message.additionals),
        is_truncated: message.metadata.truncation,
        bytes: bytes.len(),
    }
}

/// A resolver on port 53 of the machine that knows some names and says of others that they do not exist.
pub(crate) struct Upstream(Arc<AtomicUsize>);

impl Upstream {
    pub(crate) fn start(names: &[(&str, &str)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        let names: Vec<(Name, RData)> = names
            .iter()
            .map(|(name, address)| {
                (
                    Name::from_ascii(name).unwrap(),
                    RData::A(A(address.parse().unwrap())),
                )
            })
            .collect();
        let questions = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&questions);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                counter.fetch_add(1, Ordering::Relaxed);
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let asked = query.queries[0].name().clone();
                let mut response = Message::response(query.metadata.id, OpCode::Query);
                response.queries.clone_from(&query.queries);
                if let Some((_, data)) = names.iter().find(|(name, _)| *name == asked) {
                    response.add_answer(Record::from_rdata(asked, 60, data.clone()));
                } else {
                    response.metadata.response_code = ResponseCode::NXDomain;
                    // Without it nobody may keep the answer (RFC 2308).
                    response.add_authority(start_of_authority());
                }
                let _sent = socket.send_to(&response.to_vec().unwrap(), client);
            }
        });
        Self(questions)
    }

    pub(crate) fn questions(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn start_of_authority() -> Record {
    let name = Name::from_ascii("example.").unwrap();
    let data = SOA::new(name.clone(), name.clone(), 1, 60, 60, 60, 60);
    Record::from_rdata(name, 60, RData::SOA(data))
}
