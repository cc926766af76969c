//! From a query's bytes to a response's: what can be answered at once is, the rest is told apart; pure.

use crate::records::Records;
use crate::zone::{Answer, Found, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

/// The largest UDP response: what crosses every link in one piece. A client with a smaller limit gets that.
const UDP_BYTES_MAX: u16 = 1232;
/// A client that names no limit takes this much (RFC 1035).
const UDP_BYTES_PLAIN: u16 = 512;
const HEADER_BYTES: usize = 12;

/// How a message came, which limits how large an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What to do with what a client sent.
#[derive(Debug)]
pub(crate) enum Reaction {
    Ignore,
    Respond(Vec<u8>),
    /// Ask others first.
    Forward(Box<Forward>),
}

/// A response that waits for what others know.
#[derive(Debug)]
pub(crate) struct Forward {
    query: Message,
    transport: Transport,
    /// What is known already: the alias that leads out of the cluster.
    known: Vec<Record>,
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
}

/// What others said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Upstream {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
}

pub(crate) fn react(
    zone: &Zone,
    records: &Records,
    bytes: &[u8],
    transport: Transport,
) -> Reaction {
    let query = match Message::from_vec(bytes) {
        Ok(query) => query,
        Err(_malformed) => return refuse_malformed(bytes),
    };
    // Answering answers would let two servers talk to each other for ever.
    if query.metadata.message_type != MessageType::Query {
        return Reaction::Ignore;
    }
    match check(&query) {
        Ok((name, kind)) => {
            let rotation = usize::from(query.metadata.id);
            answer(zone, records, query, transport, &name, kind, rotation)
        }
        Err(code) => Reaction::Respond(encode(&response_to(&query, code), &query, transport)),
    }
}

impl Forward {
    /// The whole response, once others have answered.
    pub(crate) fn respond(self, upstream: Upstream) -> Vec<u8> {
        // An alias stands, whatever others know of its target.
        let code = if self.known.is_empty() {
            upstream.code
        } else {
            ResponseCode::NoError
        };
        let mut response = response_to(&self.query, code);
        response.metadata.authoritative = !self.known.is_empty();
        response.answers = self.known;
        response.answers.extend(upstream.answers);
        response.authorities = upstream.authorities;
        encode(&response, &self.query, self.transport)
    }
}

impl Upstream {
    pub(crate) fn failed(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            authorities: Vec::new(),
        }
    }
}

/// The one question of a query that this server understands.
fn check(query: &Message) -> Result<(Name, RecordType), ResponseCode> {
    if query.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(ResponseCode::BADVERS);
    }
    let [question]: &[Query; 1] = query
        .queries
        .as_slice()
        .try_into()
        .map_err(|_several| ResponseCode::FormErr)?;
    let is_transfer = matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR);
    if question.query_class() != DNSClass::IN || is_transfer {
        return Err(ResponseCode::Refused);
    }
    Ok((question.name().clone(), question.query_type()))
}

fn answer(
    zone: &Zone,
    records: &Records,
    query: Message,
    transport: Transport,
    name: &Name,
    kind: RecordType,
    rotation: usize,
) -> Reaction {
    let forward = |query, known, name| {
        Reaction::Forward(Box::new(Forward {
            query,
            transport,
            known,
            name,
            kind,
        }))
    };
    let (code, found) = match zone.answer(records, name, kind, rotation) {
        Answer::Elsewhere => return forward(query, Vec::new(), name.clone()),
        Answer::Found(Found {
            answers,
            continues_at: Some(target),
            ..
        }) => return forward(query, answers, target),
        Answer::Found(found) => (ResponseCode::NoError, found),
        Answer::NoSuchName => (ResponseCode::NXDomain, Found::default()),
        Answer::NotYet => {
            let failure = response_to(&query, ResponseCode::ServFail);
            return Reaction::Respond(encode(&failure, &query, transport));
        }
    };
    let mut response = response_to(&query, code);
    response.metadata.authoritative = true;
    if found.answers.is_empty() {
        response.authorities.push(zone.start_of_authority(records));
    }
    response.answers = found.answers;
    response.additionals = found.additionals;
    Reaction::Respond(encode(&response, &query, transport))
}

fn response_to(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.queries.clone_from(&query.queries);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.checking_disabled = query.metadata.checking_disabled;
    response.metadata.response_code = code;
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        edns.set_rcode_high(code.high());
        response.edns = Some(edns);
    }
    response
}

/// The response in at most as many bytes as the client takes: first it loses what is only helpful, then answers, and then
/// it says so.
fn encode(response: &Message, query: &Message, transport: Transport) -> Vec<u8> {
    let limit = match (transport, &query.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => usize::from(UDP_BYTES_PLAIN),
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX))
        }
    };
    let mut response = response.clone();
    let mut bytes = to_bytes(&response);
    if bytes.len() > limit {
        response.additionals.clear();
        bytes = to_bytes(&response);
    }
    while bytes.len() > limit {
        response.metadata.truncation = true;
        response.authorities.clear();
        if response.answers.is_empty() {
            break;
        }
        response.answers.truncate(response.answers.len() / 2);
        bytes = to_bytes(&response);
    }
    bytes
}

/// A response that cannot be written is a failure of this server, and the client is told.
fn to_bytes(response: &Message) -> Vec<u8> {
    response.to_vec().unwrap_or_else(|error| {
        tracing::warn!(%error, "a DNS response could not be encoded");
        let id = response.metadata.id;
        Message::error_msg(id, response.metadata.op_code, ResponseCode::ServFail)
            .to_vec()
            .unwrap_or_default()
    })
}

fn refuse_malformed(bytes: &[u8]) -> Reaction {
    const RESPONSE_BIT: u8 = 0x80;
    let is_response = bytes.get(2).is_none_or(|flags| flags & RESPONSE_BIT != 0);
    if bytes.len() < HEADER_BYTES || is_response {
        return Reaction::Ignore;
    }
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let response = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    Reaction::Respond(to_bytes(&response))
}
