//! The services, called without a network: what no call of etcdctl shows.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kv::MemoryKv;
use prost::Message;
use tokio::sync::mpsc;
use tonic::codec::Codec;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::core::{Core, Identity};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::response_op::Response as Done;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::proto::v3electionpb::election_server::Election;
use crate::proto::v3lockpb::LockRequest;
use crate::proto::v3lockpb::lock_server::Lock;
use crate::services::{Answers, MESSAGE_BYTES_MAX};

const DEADLINE: Duration = Duration::from_secs(30);

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let limited = async { env::timeout(DEADLINE, test).await };
    runtime.block_on(limited).expect("the test takes too long")
}

fn core() -> Core {
    let identity = Identity::derived(b"cluster", "member", Vec::new());
    Core::new(MemoryKv::new(), identity)
}

async fn put(core: &Core, key: &str, value: &[u8]) -> i64 {
    let request = put_request(key, value);
    let answer = Kv::put(core, Request::new(request)).await;
    let header = answer.expect("a put").into_inner().header;
    header.expect("a header").revision
}

fn put_request(key: &str, value: &[u8]) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: value.to_vec(),
        ..Default::default()
    }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn range_request(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

async fn txn(core: &Core, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
    let answer = Kv::txn(core, Request::new(request)).await?;
    Ok(answer.into_inner())
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("a header").revision
}

#[test]
fn every_answer_in_a_transaction_carries_the_revision_that_it_saw() {
    run(async {
        let core = core();
        put(&core, "a", b"1").await;
        let inner = pb::TxnRequest {
            success: vec![
                op(Op::RequestRange(range_request("a"))),
                op(Op::RequestPut(put_request("b", b"2"))),
            ],
            ..Default::default()
        };
        let outer = pb::TxnRequest {
            success: vec![
                op(Op::RequestDeleteRange(pb::DeleteRangeRequest {
                    key: b"missing".to_vec(),
                    ..Default::default()
                })),
                op(Op::RequestTxn(inner)),
                op(Op::RequestRange(range_request("b"))),
            ],
            ..Default::default()
        };
        let answer = txn(&core, outer).await.expect("a transaction");
        assert_eq!(revision(answer.header), 3);
        let mut done = answer.responses.into_iter().filter_map(|one| one.response);
        let Some(Done::ResponseDeleteRange(deleted)) = done.next() else {
            panic!("a delete first");
        };
        assert_eq!((revision(deleted.header), deleted.deleted), (2, 0));
        let Some(Done::ResponseTxn(inner)) = done.next() else {
            panic!("then a transaction");
        };
        // As in etcd, an inner transaction's header says nothing.
        assert_eq!(inner.header, Some(pb::ResponseHeader::default()));
        let inner: Vec<_> = inner
            .responses
            .into_iter()
            .filter_map(|one| match one.response? {
                Done::ResponseRange(found) => Some(revision(found.header)),
                Done::ResponsePut(put) => Some(revision(put.header)),
                _ => None,
            })
            .collect();
        assert_eq!(inner, [2, 3]);
        let Some(Done::ResponseRange(found)) = done.next() else {
            panic!("a range last");
        };
        assert_eq!((revision(found.header), found.count), (3, 1));
    });
}

#[test]
fn a_condition_on_a_range_is_one_on_all_its_keys() {
    run(async {
        let core = core();
        put(&core, "k/1", b"same").await;
        put(&core, "k/2", b"same").await;
        let with = |value: &[u8]| pb::TxnRequest {
            compare: vec![pb::Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Value.into(),
                key: b"k/".to_vec(),
                range_end: b"k0".to_vec(),
                target_union: Some(TargetUnion::Value(value.to_vec())),
            }],
            ..Default::default()
        };
        assert!(txn(&core, with(b"same")).await.expect("answered").succeeded);
        put(&core, "k/2", b"other").await;
        assert!(!txn(&core, with(b"same")).await.expect("answered").succeeded);
    });
}

/// etcd's own answers to numbers that mean nothing.
#[test]
fn conditions_with_unknown_targets_or_comparisons_are_decided_as_in_etcd() {
    run(async {
        let core = core();
        put(&core, "a", b"1").await;
        let holds = async |key: &str, target: i32, result: i32| {
            let compare = pb::Compare {
                result,
                target,
                key: key.into(),
                ..Default::default()
            };
            let request = pb::TxnRequest {
                compare: vec![compare],
                ..Default::default()
            };
            txn(&core, request).await.expect("answered").succeeded
        };
        let (equal, greater, less, not_equal) = (0, 1, 2, 3);
        for (result, expected) in [
            (equal, true),
            (greater, false),
            (less, false),
            (not_equal, false),
        ] {
            assert_eq!(
                holds("a", 77, result).await,
                expected,
                "target 77, result {result}"
            );
        }
        for (key, target, expected) in [
            ("a", 0, true),
            ("a", 77, true),
            ("a", 3, true),
            ("b", 0, true),
            ("b", 3, false),
        ] {
            assert_eq!(
                holds(key, target, 77).await,
                expected,
                "{key}, target {target}"
            );
        }
    });
}

#[test]
fn what_is_wrong_with_a_request_is_told_in_etcds_words() {
    run(async {
        let core = core();
        let told = |status: Status| (status.code(), status.message().to_owned());
        let invalid = |text: &str| (Code::InvalidArgument, format!("etcdserver: {text}"));

        let many = vec![op(Op::RequestRange(range_request("a"))); 129];
        let answer = txn(
            &core,
            pb::TxnRequest {
                success: many,
                ..Default::default()
            },
        );
        assert_eq!(
            told(answer.await.expect_err("too many")),
            invalid("too many operations in txn request")
        );
        let empty = pb::RequestOp { request: None };
        let answer = txn(
            &core,
            pb::TxnRequest {
                failure: vec![empty],
                ..Default::default()
            },
        );
        assert_eq!(
            told(answer.await.expect_err("nothing")),
            invalid("key not found")
        );
        let large = put_request("a", &vec![0; 3 << 19]);
        let answer = Kv::put(&core, Request::new(large)).await;
        assert_eq!(
            told(answer.expect_err("too large")),
            invalid("request is too large")
        );
        let mut odd = range_request("a");
        odd.sort_order = 7;
        let answer = Kv::range(&core, Request::new(odd)).await;
        assert_eq!(
            told(answer.expect_err("odd")),
            invalid("invalid sort option")
        );
        let answer = Lease::lease_revoke(&core, Request::new(pb::LeaseRevokeRequest { id: 5 }));
        assert_eq!(
            told(answer.await.expect_err("no lease")),
            (
                Code::NotFound,
                "etcdserver: requested lease not found".to_owned()
            )
        );
    });
}

#[test]
fn a_put_on_its_own_looks_for_the_lease_first_and_one_in_a_transaction_for_the_key() {
    run(async {
        let core = core();
        let neither_is_there = pb::PutRequest {
            key: b"a".to_vec(),
            lease: 5,
            ignore_value: true,
            ..Default::default()
        };
        let alone = Kv::put(&core, Request::new(neither_is_there.clone())).await;
        let alone = alone.expect_err("no lease");
        assert_eq!(alone.message(), "etcdserver: requested lease not found");
        let success = vec![op(Op::RequestPut(neither_is_there))];
        let request = pb::TxnRequest {
            success,
            ..Default::default()
        };
        let within = txn(&core, request).await.expect_err("no key");
        assert_eq!(within.message(), "etcdserver: key not found");
    });
}

#[test]
fn a_range_as_a_stream_is_the_range_in_parts_that_grow() {
    run(async {
        let core = core();
        for number in 0..100 {
            put(&core, &format!("s/{number:03}"), b"value").await;
        }
        let request = pb::RangeRequest {
            key: b"s/".to_vec(),
            range_end: b"s0".to_vec(),
            limit: 90,
            ..Default::default()
        };
        let whole = Kv::range(&core, Request::new(request.clone())).await;
        let parts = Kv::range_stream(&core, Request::new(request)).await;
        let parts: Vec<_> = parts.expect("a stream").into_inner().collect().await;
        let parts: Vec<_> = parts
            .into_iter()
            .filter_map(|part| part.expect("a part").range_response)
            .collect();
        let sizes: Vec<_> = parts.iter().map(|part| part.kvs.len()).collect();
        assert_eq!(sizes, [10, 20, 40, 20]);
        let merged = pb::RangeResponse {
            kvs: parts.iter().flat_map(|part| part.kvs.clone()).collect(),
            ..parts.last().expect("a last part").clone()
        };
        assert_eq!(merged, whole.expect("a range").into_inner());
    });
}

/// A client's side of one stream of watches.
struct Client {
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    answers: Answers<pb::WatchResponse>,
}

impl Client {
    async fn open(core: &Core) -> Self {
        let (requests, mut queue) = mpsc::unbounded_channel::<pb::WatchRequest>();
        let frames = stream::poll_fn(move |context| queue.poll_recv(context))
            .map(|request| Ok::<_, Status>(Frame::data(framed(&request))));
        let mut codec = ProstCodec::<pb::WatchResponse, pb::WatchRequest>::default();
        let body = StreamBody::new(frames);
        let requests_read = Streaming::new_request(codec.decoder(), body, None, None);
        let answers = Watch::watch(core, Request::new(requests_read)).await;
        Self {
            requests,
            answers: answers.expect("a stream").into_inner(),
        }
    }

    fn ask(&self, request: RequestUnion) {
        let request_union = Some(request);
        let sent = self.requests.send(pb::WatchRequest { request_union });
        sent.expect("the server listens");
    }

    fn create(&self, key: &str, start_revision: i64, id: i64) {
        self.ask(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: key.into(),
            start_revision,
            watch_id: id,
            ..Default::default()
        }));
    }

    fn ask_progress(&self) {
        self.ask(RequestUnion::ProgressRequest(
            pb::WatchProgressRequest::default(),
        ));
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let answer = self.answers.next().await.expect("an answer");
        answer.expect("no error")
    }
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).expect("a short message"));
    message.encode(&mut bytes).expect("space for it");
    bytes.freeze()
}

#[test]
fn progress_of_all_watches_follows_the_events_of_each() {
    run(async {
        let core = core();
        let mut client = Client::open(&core).await;
        client.create("a", 0, 11);
        client.create("b", 0, 12);
        for id in [11, 12] {
            let created = client.next().await;
            assert!(created.created);
            assert_eq!((created.watch_id, revision(created.header)), (id, 1));
        }
        // More than wait for a client: one watch is done before the other can be.
        const EVENTS: usize = 4 * crate::watches::ANSWERS_MAX;
        for round in 0..10 {
            let mut last = put(&core, "a", b"x").await;
            for _ in 1..EVENTS {
                last = put(&core, "b", b"x").await;
                tokio::task::yield_now().await;
            }
            client.ask_progress();
            let (mut seen, mut reached) = (0, 0);
            while reached < last {
                let answer = client.next().await;
                if answer.watch_id == -1 {
                    reached = revision(answer.header);
                } else {
                    seen += answer.events.len();
                }
            }
            assert_eq!(seen, EVENTS, "round {round}: progress came before events");
        }
    });
}

#[test]
fn a_watch_of_the_future_withholds_progress_and_what_is_compacted_ends_alone() {
    run(async {
        let core = core();
        for _ in 0..5 {
            put(&core, "a", b"x").await;
        }
        core.kv.compact(4).await.expect("compacted");
        let mut client = Client::open(&core).await;
        client.create("a", 2, 1);
        assert!(client.next().await.created);
        let ended = client.next().await;
        assert!(ended.canceled);
        assert_eq!((ended.watch_id, ended.compact_revision), (1, 4));

        client.create("a", 100, 2);
        assert!(client.next().await.created);
        client.ask_progress();
        client.create("a", -1, 3);
        // The refusal comes next, so there was no answer to the request before it.
        let refused = client.next().await;
        assert_eq!(
            (refused.watch_id, refused.created, refused.canceled),
            (-1, true, true)
        );
        client.create("a", 0, 2);
        assert_eq!(
            client.next().await.cancel_reason,
            "mvcc: duplicate watch ID provided on the WatchStream"
        );
    });
}

#[test]
fn fragments_are_of_one_answer_and_each_is_small_enough() {
    run(async {
        let core = core();
        let mut client = Client::open(&core).await;
        client.ask(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: b"f".to_vec(),
            range_end: b"g".to_vec(),
            fragment: true,
            ..Default::default()
        }));
        assert!(client.next().await.created);
        let value = vec![7; 700 << 10];
        for number in 0..2 {
            put(&core, &format!("f{number}"), &value).await;
        }
        // One revision with more than fits a message: a delete with the old values.
        client.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id: 0,
        }));
        while !client.next().await.canceled {}
        for number in 2..5 {
            put(&core, &format!("f{number}"), &value).await;
        }
        client.ask(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: b"f".to_vec(),
            range_end: b"g".to_vec(),
            fragment: true,
            prev_kv: true,
            ..Default::default()
        }));
        assert!(client.next().await.created);
        let delete = pb::DeleteRangeRequest {
            key: b"f".to_vec(),
            range_end: b"g".to_vec(),
            ..Default::default()
        };
        let deleted = Kv::delete_range(&core, Request::new(delete)).await;
        assert_eq!(deleted.expect("a delete").into_inner().deleted, 5);
        let mut parts = vec![client.next().await];
        while parts.last().is_some_and(|part| part.fragment) {
            parts.push(client.next().await);
        }
        let counts: Vec<_> = parts.iter().map(|part| part.events.len()).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert!(
            parts
                .iter()
                .all(|part| part.encoded_len() < MESSAGE_BYTES_MAX)
        );
    });
}

#[test]
fn a_lock_is_passed_on_in_the_order_in_which_it_was_asked_for() {
    run(async {
        let core = core();
        let lock = |lease: i64| {
            let core = core.clone();
            async move {
                let grant = pb::LeaseGrantRequest { ttl: 60, id: lease };
                let granted = Lease::lease_grant(&core, Request::new(grant)).await;
                granted.expect("a lease");
                let request = LockRequest {
                    name: b"l".to_vec(),
                    lease,
                };
                let locked = Lock::lock(&core, Request::new(request)).await;
                locked.expect("a lock").into_inner().key
            }
        };
        let held = lock(1).await;
        assert_eq!(held, b"l/1");
        let given_up = env::spawn(lock(2));
        until_there(&core, "l/2").await;
        let next = env::spawn(lock(3));
        until_there(&core, "l/3").await;
        // The client of the second is gone: its place goes too, and the third is next.
        given_up.abort();
        until_gone(&core, "l/2").await;
        let request = pb::LeaseRevokeRequest { id: 1 };
        let revoked = Lease::lease_revoke(&core, Request::new(request)).await;
        revoked.expect("revoked");
        assert_eq!(next.await.expect("the third has it"), b"l/3");
    });
}

#[test]
fn who_observes_an_election_hears_of_each_leader_and_its_words() {
    use crate::proto::v3electionpb as election;
    run(async {
        let core = core();
        let name = election::LeaderRequest {
            name: b"e".to_vec(),
        };
        let observed = Election::observe(&core, Request::new(name)).await;
        let mut observed = observed.expect("a stream").into_inner();
        let campaign = |value: &[u8]| election::CampaignRequest {
            name: b"e".to_vec(),
            value: value.to_vec(),
            ..Default::default()
        };
        let won = Election::campaign(&core, Request::new(campaign(b"first"))).await;
        let leader = won.expect("elected").into_inner().leader;
        let mut heard = async || {
            let answer = observed.next().await.expect("an answer").expect("no error");
            answer.kv.expect("a key").value
        };
        assert_eq!(heard().await, b"first");
        let proclaim = election::ProclaimRequest {
            leader: leader.clone(),
            value: b"second".to_vec(),
        };
        let said = Election::proclaim(&core, Request::new(proclaim.clone())).await;
        said.expect("the leader may");
        assert_eq!(heard().await, b"second");
        let resign = election::ResignRequest { leader };
        let resigned = Election::resign(&core, Request::new(resign)).await;
        resigned.expect("resigned");
        let late = Election::proclaim(&core, Request::new(proclaim)).await;
        assert_eq!(
            late.expect_err("no leader any more").message(),
            "election: not leader"
        );
    });
}

async fn until_there(core: &Core, key: &str) {
    let mut events = core
        .events(kv::KeyRange::key(key), 1)
        .await
        .expect("a watch");
    while !matches!(events.next().await, Ok(kv::Event::Put { .. })) {}
}

async fn until_gone(core: &Core, key: &str) {
    let mut events = core
        .events(kv::KeyRange::key(key), 1)
        .await
        .expect("a watch");
    while !matches!(events.next().await, Ok(kv::Event::Delete { .. })) {}
}
