//! The rules of etcd that every store keeps, shown on the model through its public face.

use std::sync::Arc;
use std::time::Duration;

use env::{Clock, ManualClock, Timestamp};
use tokio::runtime::Builder;

use crate::CompareOperator::{Equal, Greater, Less, NotEqual};
use crate::*;

fn run<F: Future>(test: F) -> F::Output {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        env::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test takes too long")
    })
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put {
        key: key.into(),
        value: Arc::from(value.as_bytes()),
        lease: 0,
    }
}

fn delete(range: KeyRange) -> Operation {
    Operation::DeleteRange(range)
}

async fn write(kv: &MemoryKv, operations: Vec<Operation>) -> Result<TxnResponse> {
    kv.txn(
        Txn {
            success: operations,
            ..Txn::default()
        },
        Durability::Durable,
    )
    .await
}

async fn read(
    kv: &MemoryKv,
    range: KeyRange,
    revision: Option<Revision>,
) -> Result<Vec<(String, String)>> {
    let request = RangeRequest {
        revision,
        ..RangeRequest::newest(range)
    };
    Ok(kv
        .range(request)
        .await?
        .entries
        .iter()
        .map(|entry| (text(&entry.key), text(&entry.value)))
        .collect())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

async fn watch(kv: &MemoryKv, range: KeyRange, start_revision: Option<Revision>) -> WatchStream {
    kv.watch(WatchRequest {
        range,
        start_revision,
    })
    .await
    .expect("a watch")
}

/// `put a=1 @2`, `delete a @3 was 1`, `progress 4`, `compacted 3`, one line for each message, events joined by `, `.
async fn next(stream: &mut WatchStream) -> String {
    match stream.messages.recv().await.expect("a message") {
        WatchMessage::Events(events) => events.iter().map(line).collect::<Vec<_>>().join(", "),
        WatchMessage::Progress(revision) => format!("progress {revision}"),
        WatchMessage::Compacted { compact_revision } => format!("compacted {compact_revision}"),
    }
}

fn line(event: &Event) -> String {
    let was = |previous: &Option<Arc<Entry>>| {
        previous.as_ref().map_or(String::new(), |entry| {
            format!(" was {}", text(&entry.value))
        })
    };
    let key = text(event.key());
    match event {
        Event::Put { entry, previous } => {
            format!(
                "put {key}={} @{}{}",
                text(&entry.value),
                entry.mod_revision,
                was(previous)
            )
        }
        Event::Delete {
            revision, previous, ..
        } => {
            format!("delete {key} @{revision}{}", was(previous))
        }
    }
}

#[test]
fn revisions_start_at_one_and_grow_with_writes_that_change_something() {
    run(async {
        let kv = MemoryKv::new();
        assert_eq!(kv.current_revision(), 1);
        assert_eq!(
            write(&kv, vec![delete(KeyRange::prefix("a"))])
                .await
                .unwrap()
                .revision,
            1
        );
        assert_eq!(
            write(&kv, vec![put("a", "1"), put("b", "2")])
                .await
                .unwrap()
                .revision,
            2
        );
        assert_eq!(write(&kv, vec![]).await.unwrap().revision, 2);
        let failed = Txn {
            compares: vec![Compare::absent("a")],
            success: vec![put("a", "3")],
            failure: vec![],
        };
        let answer = kv.txn(failed, Durability::Durable).await.unwrap();
        assert_eq!((answer.succeeded, answer.revision), (false, 2));
    });
}

#[test]
fn versions_count_within_a_generation() {
    run(async {
        let kv = MemoryKv::new();
        write(&kv, vec![put("a", "1")]).await.unwrap();
        write(&kv, vec![put("a", "2")]).await.unwrap();
        let answer = write(&kv, vec![delete(KeyRange::key("a"))]).await.unwrap();
        let [OperationResult::Delete { previous }] = answer.results.as_slice() else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (
                previous[0].create_revision,
                previous[0].mod_revision,
                previous[0].version
            ),
            (2, 3, 2)
        );
        let answer = write(&kv, vec![put("a", "3")]).await.unwrap();
        let [
            OperationResult::Put {
                entry,
                previous: None,
            },
        ] = answer.results.as_slice()
        else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (entry.create_revision, entry.mod_revision, entry.version),
            (5, 5, 1)
        );
    });
}

#[test]
fn a_range_in_a_transaction_sees_what_the_transaction_wrote() {
    run(async {
        let kv = MemoryKv::new();
        write(&kv, vec![put("a", "1")]).await.unwrap();
        let range = Operation::Range(RangeRequest::newest(KeyRange::prefix("")));
        let old = Operation::Range(RangeRequest {
            revision: Some(2),
            ..RangeRequest::newest(KeyRange::prefix(""))
        });
        let operations = vec![
            range.clone(),
            put("b", "2"),
            range,
            delete(KeyRange::key("a")),
            old,
        ];
        let answer = write(&kv, operations).await.unwrap();
        let ranges: Vec<_> = answer
            .results
            .iter()
            .filter_map(|result| {
                if let OperationResult::Range(range) = result {
                    Some((range.revision, range.count))
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(ranges, vec![(2, 1), (3, 2), (3, 1)]);
    });
}

#[test]
fn an_old_revision_is_read_as_it_was_until_it_is_compacted() {
    run(async {
        let kv = MemoryKv::new();
        write(&kv, vec![put("a", "1"), put("b", "1")])
            .await
            .unwrap();
        write(&kv, vec![put("a", "2")]).await.unwrap();
        write(&kv, vec![delete(KeyRange::key("a"))]).await.unwrap();
        write(&kv, vec![put("a", "4")]).await.unwrap();
        let all = || KeyRange::prefix("");
        assert_eq!(
            read(&kv, all(), Some(2)).await.unwrap(),
            pairs(&[("a", "1"), ("b", "1")])
        );
        assert_eq!(
            read(&kv, all(), Some(3)).await.unwrap(),
            pairs(&[("a", "2"), ("b", "1")])
        );
        assert_eq!(
            read(&kv, all(), Some(4)).await.unwrap(),
            pairs(&[("b", "1")])
        );
        assert_eq!(read(&kv, all(), Some(6)).await, Err(Error::FutureRevision));
        kv.compact(4).await.unwrap();
        assert_eq!(
            read(&kv, all(), Some(3)).await,
            Err(Error::Compacted {
                compact_revision: 4
            })
        );
        assert_eq!(
            read(&kv, all(), Some(4)).await.unwrap(),
            pairs(&[("b", "1")])
        );
        assert_eq!(
            read(&kv, all(), None).await.unwrap(),
            pairs(&[("a", "4"), ("b", "1")])
        );
        assert_eq!(
            kv.compact(4).await,
            Err(Error::Compacted {
                compact_revision: 4
            })
        );
        assert_eq!(kv.compact(6).await, Err(Error::FutureRevision));
        kv.compact(5).await.unwrap();
    });
}

#[test]
fn a_negative_revision_is_the_newest_but_for_a_range_in_a_transaction() {
    run(async {
        let kv = MemoryKv::new();
        write(&kv, vec![put("a", "1")]).await.expect("a write");
        let range = KeyRange::key("a");
        let at = |revision| RangeRequest {
            revision: Some(revision),
            ..RangeRequest::newest(range.clone())
        };
        for revision in [-1, -2] {
            let alone = kv.range(at(revision)).await.expect("a range");
            assert_eq!(alone.count, 1);
        }
        // As long as nothing was compacted, the compacted revision is -1.
        let within = |revision| vec![Operation::Range(at(revision))];
        assert!(write(&kv, within(-1)).await.is_ok());
        let refused = write(&kv, within(-2)).await.map(|done| done.revision);
        let compact_revision = -1;
        assert_eq!(refused, Err(Error::Compacted { compact_revision }));
        kv.compact(2).await.expect("a compaction");
        let refused = write(&kv, within(-1)).await.map(|done| done.revision);
        let compact_revision = 2;
        assert_eq!(refused, Err(Error::Compacted { compact_revision }));
    });
}

#[test]
fn limits_cut_the_entries_and_not_the_count() {
    run(async {
        let kv = MemoryKv::new();
        for number in 0..200 {
            write(&kv, vec![put(&format!("k/{number:03}"), "x")])
                .await
                .unwrap();
        }
        write(&kv, vec![delete(KeyRange::from_to("k/050", "k/060"))])
            .await
            .unwrap();
        for revision in [None, Some(kv.current_revision())] {
            let request = RangeRequest {
                limit: 7,
                revision,
                ..RangeRequest::newest(KeyRange::prefix("k/"))
            };
            let answer = kv.range(request.clone()).await.unwrap();
            assert_eq!((answer.entries.len(), answer.count), (7, 190));
            let answer = kv
                .range(RangeRequest {
                    content: RangeContent::CountOnly,
                    ..request
                })
                .await
                .unwrap();
            assert_eq!((answer.entries.len(), answer.count), (0, 190));
        }
    });
}

/// The rule of etcd, whose check for duplicates does not see such a range.
#[test]
fn a_delete_to_the_last_key_may_stand_beside_puts_and_they_run_in_order() {
    run(async {
        let kv = MemoryKv::new();
        let from_b = || {
            delete(KeyRange {
                start: b"b".to_vec(),
                end: Some(Vec::new()),
            })
        };
        write(&kv, vec![put("a", "1"), put("b", "1"), put("c", "1")])
            .await
            .unwrap();
        let mut events = watch(&kv, KeyRange::prefix(""), Some(3)).await;
        // Put and deleted again, deleted and made anew.
        let put_first = vec![put("b", "2"), from_b(), put("c", "3")];
        assert_eq!(write(&kv, put_first).await.unwrap().revision, 3);
        let found = kv
            .range(RangeRequest::newest(KeyRange::prefix("")))
            .await
            .unwrap();
        let found: Vec<_> = found
            .entries
            .iter()
            .map(|entry| (&*entry.key, entry.create_revision, entry.version))
            .collect();
        assert_eq!(found, [(&b"a"[..], 2, 1), (&b"c"[..], 3, 1)]);
        let WatchMessage::Events(seen) = events.messages.recv().await.unwrap() else {
            panic!("events first");
        };
        let keys: Vec<_> = seen.iter().map(|event| event.key().to_vec()).collect();
        assert_eq!(keys, [b"b", b"b", b"c", b"c"]);

        // Nothing is left of what it wants to keep.
        let update = Operation::Update {
            key: "c".into(),
            value: None,
            lease: None,
        };
        let refused = write(&kv, vec![from_b(), update]).await.unwrap_err();
        assert_eq!(refused, Error::DuplicateKey);
    });
}

#[test]
fn a_transaction_is_refused_before_it_changes_anything() {
    run(async {
        let limits = Limits {
            operations_max: 3,
            request_bytes_max: 100,
        };
        let kv = MemoryKv::open(MemoryOptions {
            limits,
            ..MemoryOptions::default()
        });
        let refused = [
            (vec![put("a", "1"), put("a", "2")], Error::DuplicateKey),
            (
                vec![put("a", "1"), delete(KeyRange::prefix("a"))],
                Error::DuplicateKey,
            ),
            (
                vec![delete(KeyRange::key("a")), put("a", "1")],
                Error::DuplicateKey,
            ),
            (
                vec![put("a", "1"), put("b", "1"), put("c", "1"), put("d", "1")],
                Error::TooManyOperations,
            ),
            (vec![put("a", &"x".repeat(100))], Error::TooLarge),
            (vec![put("", "1")], Error::EmptyKey),
            (
                vec![
                    put("a", "1"),
                    Operation::Put {
                        key: "b".into(),
                        value: Arc::from(&b""[..]),
                        lease: 7,
                    },
                ],
                Error::LeaseNotFound,
            ),
        ];
        for (operations, error) in refused {
            assert_eq!(write(&kv, operations).await.unwrap_err(), error);
        }
        assert_eq!(
            (kv.current_revision(), kv.status().await.unwrap().keys),
            (1, 0)
        );
        // Deletes may overlap each other: the second one finds nothing.
        write(
            &kv,
            vec![
                put("b", "1"),
                delete(KeyRange::key("a")),
                delete(KeyRange::key("a")),
            ],
        )
        .await
        .unwrap();
    });
}

#[test]
fn every_compare_target_is_compared_and_a_missing_key_is_zero_without_a_value() {
    run(async {
        let kv = MemoryKv::new();
        kv.lease_grant(9, Duration::from_mins(1)).await.unwrap();
        write(&kv, vec![put("a", "1")]).await.unwrap();
        write(
            &kv,
            vec![Operation::Put {
                key: "a".into(),
                value: Arc::from(&b"m"[..]),
                lease: 9,
            }],
        )
        .await
        .unwrap();
        let holds = async |key: &str, target, operator| {
            let compares = vec![Compare {
                range: KeyRange::key(key),
                target,
                operator,
            }];
            kv.txn(
                Txn {
                    compares,
                    ..Txn::default()
                },
                Durability::Durable,
            )
            .await
            .unwrap()
            .succeeded
        };
        assert!(holds("a", CompareTarget::CreateRevision(2), Equal).await);
        assert!(holds("a", CompareTarget::ModRevision(3), Equal).await);
        assert!(holds("a", CompareTarget::Version(1), Greater).await);
        assert!(holds("a", CompareTarget::Lease(9), Equal).await);
        assert!(holds("a", CompareTarget::Value(b"n".to_vec()), Less).await);
        assert!(!holds("a", CompareTarget::Value(b"m".to_vec()), NotEqual).await);
        assert!(holds("z", CompareTarget::Version(0), Equal).await);
        assert!(holds("z", CompareTarget::Lease(0), Equal).await);
        for operator in [Equal, NotEqual, Greater, Less] {
            assert!(!holds("z", CompareTarget::Value(Vec::new()), operator).await);
        }
    });
}

#[test]
fn a_watch_shows_past_and_present_in_order_with_previous_values() {
    run(async {
        let kv = MemoryKv::new();
        write(&kv, vec![put("a/1", "1"), put("b", "x")])
            .await
            .unwrap();
        write(&kv, vec![put("a/1", "2"), put("a/2", "2")])
            .await
            .unwrap();
        let mut all = watch(&kv, KeyRange::prefix("a/"), Some(2)).await;
        let mut now = watch(&kv, KeyRange::prefix("a/"), None).await;
        assert_eq!(
            next(&mut all).await,
            "put a/1=1 @2, put a/1=2 @3 was 1, put a/2=2 @3"
        );
        write(&kv, vec![delete(KeyRange::prefix("a/"))])
            .await
            .unwrap();
        for stream in [&mut all, &mut now] {
            assert_eq!(
                next(stream).await,
                "delete a/1 @4 was 2, delete a/2 @4 was 2"
            );
        }
        now.progress.0.send(()).await.unwrap();
        assert_eq!(next(&mut now).await, "progress 4");
    });
}

#[test]
fn a_watch_of_the_future_stays_silent_until_its_time() {
    run(async {
        let kv = MemoryKv::new();
        let mut stream = watch(&kv, KeyRange::key("a"), Some(4)).await;
        write(&kv, vec![put("a", "2")]).await.unwrap();
        // Once the second request is taken, the first one is dealt with; the store is still two revisions away.
        for _ in 0..2 {
            stream.progress.0.send(()).await.unwrap();
            while stream.progress.0.capacity() < stream.progress.0.max_capacity() {
                env::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(stream.messages.try_recv().is_err());
        let mut stream = watch(&kv, KeyRange::key("a"), Some(4)).await;
        write(&kv, vec![put("a", "3")]).await.unwrap();
        write(&kv, vec![put("a", "4")]).await.unwrap();
        assert_eq!(next(&mut stream).await, "put a=4 @4 was 3");
    });
}

#[test]
fn the_borders_of_a_compaction_are_those_of_etcd() {
    run(async {
        let kv = MemoryKv::new();
        write(&kv, vec![put("a", "1"), put("b", "1")])
            .await
            .unwrap();
        write(&kv, vec![put("b", "2")]).await.unwrap();
        write(&kv, vec![delete(KeyRange::key("a")), put("b", "3")])
            .await
            .unwrap();
        kv.compact(4).await.unwrap();
        // A watch exactly at the compacted revision sees its events, deletes too, but nothing from before (etcd#18089, etcd#19179).
        assert_eq!(
            next(&mut watch(&kv, KeyRange::prefix(""), Some(4)).await).await,
            "delete a @4, put b=3 @4"
        );
        assert_eq!(
            next(&mut watch(&kv, KeyRange::prefix(""), Some(3)).await).await,
            "compacted 4"
        );
        write(&kv, vec![put("b", "5")]).await.unwrap();
        kv.compact(5).await.unwrap();
        assert_eq!(
            next(&mut watch(&kv, KeyRange::prefix(""), Some(5)).await).await,
            "put b=5 @5"
        );
        // The tombstone is forgotten with its key.
        assert_eq!(kv.store_keys_with_history(), 1);
    });
}

#[test]
fn a_slow_watcher_loses_nothing_and_delays_nobody() {
    run(async {
        let kv = MemoryKv::new();
        let mut slow = watch(&kv, KeyRange::prefix("s/"), None).await;
        let writes = 20 * WATCH_QUEUE_MAX;
        for number in 0..writes {
            write(
                &kv,
                vec![
                    put(&format!("s/{}", number % 50), &number.to_string()),
                    put("s/x", ""),
                    put("t", ""),
                ],
            )
            .await
            .unwrap();
        }
        slow.progress.0.send(()).await.unwrap();
        let (mut revision, mut seen) = (1, 0);
        loop {
            match slow.messages.recv().await.unwrap() {
                WatchMessage::Events(events) => {
                    for pair in events.chunks(2) {
                        assert_eq!(
                            (pair[0].revision(), pair[1].revision()),
                            (revision + 1, revision + 1)
                        );
                        let Event::Put { entry, .. } = &pair[0] else {
                            panic!("no delete was made")
                        };
                        assert_eq!(text(&entry.value), seen.to_string());
                        seen += 1;
                        revision += 1;
                    }
                }
                WatchMessage::Progress(at) => {
                    assert_eq!((at, seen), (kv.current_revision(), writes));
                    return;
                }
                WatchMessage::Compacted { .. } => panic!("nothing was compacted"),
            }
        }
    });
}

#[test]
fn a_slow_watcher_is_told_when_its_position_is_compacted() {
    run(async {
        let kv = MemoryKv::new();
        let mut slow = watch(&kv, KeyRange::key("a"), None).await;
        for number in 0..3 * WATCH_QUEUE_MAX {
            write(&kv, vec![put("a", &number.to_string())])
                .await
                .unwrap();
        }
        let newest = kv.current_revision();
        kv.compact(newest).await.unwrap();
        let mut last = String::new();
        while let Some(message) = slow.messages.recv().await {
            last = format!("{message:?}");
        }
        assert_eq!(
            last,
            format!(
                "{:?}",
                WatchMessage::Compacted {
                    compact_revision: newest
                }
            )
        );
    });
}

#[test]
fn history_older_than_the_ring_is_replayed_from_the_tree() {
    run(async {
        let kv = MemoryKv::new();
        let large = "x".repeat(1 << 20);
        for number in 0..40 {
            write(
                &kv,
                vec![
                    put(&format!("k/{}", number % 7), &large),
                    put("n", &number.to_string()),
                ],
            )
            .await
            .unwrap();
        }
        let mut stream = watch(&kv, KeyRange::key("n"), Some(2)).await;
        let mut seen = Vec::new();
        while seen.len() < 40 {
            let WatchMessage::Events(events) = stream.messages.recv().await.unwrap() else {
                panic!("events only")
            };
            seen.extend(events.iter().map(line));
        }
        assert_eq!(
            (seen[0].as_str(), seen[39].as_str()),
            ("put n=0 @2", "put n=39 @41 was 38")
        );
    });
}

#[test]
fn watchers_see_every_write_of_concurrent_writers_in_order() {
    run(async {
        const WRITERS: usize = 8;
        const WRITES: usize = 300;
        let kv = MemoryKv::new();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let kv = Arc::clone(&kv);
                env::spawn(async move {
                    for number in 0..WRITES {
                        let key = format!("w/{}/{}", writer, number % 10);
                        if number % 7 == 3 {
                            write(
                                &kv,
                                vec![
                                    delete(KeyRange::key(key)),
                                    put(&format!("w/{writer}/n"), ""),
                                ],
                            )
                            .await
                            .unwrap();
                        } else {
                            write(
                                &kv,
                                vec![
                                    put(&key, &number.to_string()),
                                    put(&format!("w/{writer}/n"), ""),
                                ],
                            )
                            .await
                            .unwrap();
                        }
                    }
                })
            })
            .collect();
        let watchers: Vec<_> = (0..6)
            .map(|start| {
                let kv = Arc::clone(&kv);
                env::spawn(async move {
                    let start_revision = Some(2 + start * 100);
                    let mut stream = watch(&kv, KeyRange::prefix("w/"), start_revision).await;
                    let mut revision = 1 + start * 100;
                    while revision < 1 + i64::try_from(WRITERS * WRITES).unwrap() {
                        let WatchMessage::Events(events) = stream.messages.recv().await.unwrap()
                        else {
                            panic!("events only")
                        };
                        for event in events.iter() {
                            assert!(
                                event.revision() == revision || event.revision() == revision + 1
                            );
                            revision = event.revision();
                        }
                    }
                })
            })
            .collect();
        for task in writers.into_iter().chain(watchers) {
            task.await.unwrap();
        }
    });
}

#[test]
fn an_expired_lease_takes_its_keys_in_one_revision() {
    run(async {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let kv = MemoryKv::open(MemoryOptions {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..MemoryOptions::default()
        });
        let lease = kv.lease_grant(0, Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            kv.lease_grant(lease.id, Duration::from_secs(10)).await,
            Err(Error::LeaseExists)
        );
        for key in ["a", "b", "c"] {
            write(
                &kv,
                vec![Operation::Put {
                    key: key.into(),
                    value: Arc::from(&b"v"[..]),
                    lease: lease.id,
                }],
            )
            .await
            .unwrap();
        }
        // Another write without the lease detaches the key.
        write(&kv, vec![put("b", "kept")]).await.unwrap();
        let mut stream = watch(&kv, KeyRange::prefix(""), None).await;
        clock.advance(Duration::from_secs(6));
        assert_eq!(
            kv.lease_keep_alive(lease.id).await,
            Ok(Duration::from_secs(10))
        );
        clock.advance(Duration::from_secs(6));
        let status = kv.lease_status(lease.id).await.unwrap();
        assert_eq!(
            (status.remaining, status.keys.len()),
            (Duration::from_secs(4), 2)
        );
        clock.advance(Duration::from_secs(5));
        kv.check_leases();
        assert_eq!(
            next(&mut stream).await,
            "delete a @6 was v, delete c @6 was v"
        );
        assert_eq!(
            kv.lease_keep_alive(lease.id).await,
            Err(Error::LeaseNotFound)
        );
        assert_eq!(
            (kv.leases().await.unwrap(), kv.current_revision()),
            (vec![], 6)
        );
    });
}

#[test]
fn closing_ends_watches_and_refuses_writes() {
    run(async {
        let kv = MemoryKv::new();
        let mut stream = watch(&kv, KeyRange::prefix(""), None).await;
        kv.close();
        assert!(stream.messages.recv().await.is_none());
        assert_eq!(
            write(&kv, vec![put("a", "1")]).await.unwrap_err(),
            Error::Closed
        );
    });
}
