//! Many callers at once: no update is lost, what was acknowledged is seen, and watches are in order, whole, and in nobody's way.

use std::sync::Arc;

use kv::{Compare, Durability, KeyRange, Kv, RangeRequest, Txn, WatchMessage};

use crate::support::{delete, directory, drain, file, get, open, put, put_operation, run, watch};

#[test]
fn watchers_see_every_write_of_concurrent_writers_while_history_is_compacted() {
    const WRITERS: usize = 6;
    const WRITES: usize = 200;
    run(async {
        let directory = directory();
        let store = open(&file(&directory));
        let last = 1 + i64::try_from(WRITERS * WRITES).unwrap();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = Arc::clone(&store);
                env::spawn(async move {
                    for number in 0..WRITES {
                        let key = format!("w/{writer}");
                        if number % 5 == 4 {
                            delete(&*store, &key).await.unwrap()
                        } else {
                            put(&*store, &key, b"x").await.unwrap()
                        };
                        if number % 50 == 49 {
                            // Two compactions at the same revision: the later one is refused.
                            let _refused = store.compact(store.current_revision() - 20).await;
                        }
                    }
                })
            })
            .collect();
        let watchers: Vec<_> = (0..4)
            .map(|_| {
                let store = Arc::clone(&store);
                env::spawn(async move {
                    let (mut next, mut restarts) = (2, 0);
                    'watch: while next <= last {
                        let mut stream = watch(&*store, KeyRange::prefix("w/"), Some(next)).await;
                        while next <= last {
                            match stream.messages.recv().await.unwrap() {
                                WatchMessage::Events(events) => {
                                    for event in events.iter() {
                                        assert_eq!(event.revision(), next);
                                        next += 1;
                                    }
                                }
                                WatchMessage::Compacted { compact_revision } => {
                                    assert!(compact_revision > next);
                                    next = compact_revision;
                                    restarts += 1;
                                    continue 'watch;
                                }
                                WatchMessage::Progress(_) => panic!("nobody asked"),
                            }
                        }
                    }
                    restarts
                })
            })
            .collect();
        for task in writers {
            task.await.unwrap();
        }
        for task in watchers {
            assert!(task.await.unwrap() <= WRITERS * WRITES / 50);
        }
    });
}

#[test]
fn a_slow_watcher_reads_the_past_from_disk() {
    run(async {
        let directory = directory();
        let store = open(&file(&directory));
        let mut slow = watch(&*store, KeyRange::prefix("k"), None).await;
        let value = vec![b'x'; 400_000];
        for number in 0..200 {
            put(&*store, &format!("k{}", number % 3), &value)
                .await
                .unwrap();
        }
        let events = drain(&mut slow).await;
        assert_eq!(events.len(), 201);
        assert_eq!(events[200], "progress 201");
        let again = drain(&mut watch(&*store, KeyRange::prefix("k"), Some(2)).await).await;
        assert_eq!(again, events);
    });
}

#[test]
fn compare_and_set_from_many_callers_loses_no_update_and_readers_never_see_the_past() {
    const CALLERS: usize = 12;
    const UPDATES: u64 = 40;
    run(async {
        let directory = directory();
        let store = open(&file(&directory));
        put(&*store, "n", b"0").await.unwrap();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let store = Arc::clone(&store);
                env::spawn(async move {
                    let (mut done, mut seen) = (0, 0);
                    while done < UPDATES {
                        let request = RangeRequest::newest(KeyRange::key("n"));
                        let entry = Arc::clone(&store.range(request).await.unwrap().entries[0]);
                        assert!(entry.mod_revision >= seen);
                        let number: u64 = String::from_utf8_lossy(&entry.value).parse().unwrap();
                        let txn = Txn {
                            compares: vec![Compare::mod_revision_is("n", entry.mod_revision)],
                            success: vec![put_operation("n", (number + 1).to_string().as_bytes())],
                            failure: Vec::new(),
                        };
                        let answer = store.txn(txn, Durability::Durable).await.unwrap();
                        seen = answer.revision;
                        done += u64::from(answer.succeeded);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let wanted = (CALLERS as u64 * UPDATES).to_string();
        assert_eq!(
            get(&*store, "n", None).await.unwrap().unwrap(),
            wanted.as_bytes()
        );
    });
}
