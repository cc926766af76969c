//! What a store says of the file it is given.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use env::SystemRng;
use kv::{KeyRange, Kv};
use rusqlite::Connection;
use sqlite::{OpenError, Options, SealedPrefix, SealingKeys, SqliteKv};

use crate::support::{directory, drain, file, get, open, put, quiet, run, watch};

#[test]
fn sqlite_has_no_bug_that_loses_writes_of_a_reset_log() {
    assert!(
        rusqlite::version_number() >= 3_051_003,
        "{}",
        rusqlite::version()
    );
}

#[test]
fn a_damaged_row_is_named() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        let store = open(&path);
        put(&*store, "a", b"1").await.unwrap();
        put(&*store, "b", b"2").await.unwrap();
        store.close().await.unwrap();
        let connection = Connection::open(&path).unwrap();
        connection
            .execute("UPDATE log SET value = x'33' WHERE key = x'62'", [])
            .unwrap();
        drop(connection);
        let error = SqliteKv::open(&path, quiet()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(r#"row 3145728 (revision 3, key "b"): its checksum does not match"#),
            "{message}"
        );
    });
}

#[test]
fn a_newer_format_is_refused() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        open(&path).close().await.unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA user_version = 2").unwrap();
        drop(connection);
        let error = SqliteKv::open(&path, quiet()).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::NewerFormat {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn somebody_elses_database_is_refused_and_not_touched() {
    let directory = directory();
    let path = file(&directory);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE kine(id INTEGER)")
        .unwrap();
    drop(connection);
    let before = fs::read(&path).unwrap();
    let error = SqliteKv::open(&path, quiet()).unwrap_err();
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_store_is_open_once_and_private() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        let store = open(&path);
        put(&*store, "a", b"1").await.unwrap();
        let error = SqliteKv::open(&path, quiet()).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let mode = fs::metadata(directory.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        store.close().await.unwrap();
        open(&path).close().await.unwrap();
    });
}

#[test]
fn sealed_values_are_not_on_disk_in_plain_and_read_back_at_every_revision() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        let keys = SealingKeys::load_or_create(&directory.path().join("keys"), SystemRng::shared())
            .unwrap();
        let options = || {
            let sealers = vec![SealedPrefix {
                prefix: b"/secrets/".to_vec(),
                sealer: Arc::clone(&keys) as _,
            }];
            Options { sealers, ..quiet() }
        };
        let store = SqliteKv::open(&path, options()).unwrap();
        let first = put(&*store, "/secrets/a", b"hidden treasure")
            .await
            .unwrap();
        put(&*store, "/secrets/a", b"hidden chest").await.unwrap();
        put(&*store, "/plain/a", b"seen by all").await.unwrap();
        assert_eq!(
            get(&*store, "/secrets/a", Some(first))
                .await
                .unwrap()
                .unwrap(),
            b"hidden treasure"
        );
        store.close().await.unwrap();
        let on_disk = [
            fs::read(&path).unwrap(),
            fs::read(directory.path().join("state.db-wal")).unwrap(),
        ]
        .concat();
        let holds = |text: &[u8]| on_disk.windows(text.len()).any(|window| window == text);
        assert!(holds(b"seen by all") && !holds(b"hidden"));

        let store = SqliteKv::open(&path, options()).unwrap();
        assert_eq!(
            get(&*store, "/secrets/a", None).await.unwrap().unwrap(),
            b"hidden chest"
        );
        let events =
            drain(&mut watch(&*store, KeyRange::prefix("/secrets/"), Some(first)).await).await;
        assert!(
            events[0].contains("hidden treasure") && events[1].contains("hidden chest"),
            "{events:?}"
        );
        store.close().await.unwrap();

        let message = SqliteKv::open(&path, quiet()).unwrap_err().to_string();
        assert!(
            message.contains("it is sealed with key 1, which is not among the sealing keys"),
            "{message}"
        );
    });
}

#[test]
fn compaction_gives_the_space_back_to_later_writes() {
    run(async {
        let directory = directory();
        let store = open(&file(&directory));
        let value = vec![b'x'; 100_000];
        for _ in 0..5 {
            for _ in 0..40 {
                put(&*store, "a", &value).await.unwrap();
            }
            store.compact(store.current_revision()).await.unwrap();
            crate::support::until(|| async {
                store.status().await.unwrap().size_in_use_bytes < 1_000_000
            })
            .await;
        }
        let status = store.status().await.unwrap();
        assert!(status.size_bytes < 30_000_000, "{status:?}");
        assert_eq!(
            get(&*store, "a", None).await.unwrap().unwrap().len(),
            value.len()
        );
    });
}

#[test]
fn the_log_is_made_in_advance_and_stays_within_bounds() {
    run(async {
        let directory = directory();
        let store = open(&file(&directory));
        let log = directory.path().join("state.db-wal");
        let length = || fs::metadata(&log).unwrap().len();
        put(&*store, "a", b"1").await.unwrap();
        assert!(length() >= 8 << 20);
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let store = Arc::clone(&store);
                env::spawn(async move {
                    for number in 0..100 {
                        put(&*store, &format!("{writer}/{number}"), &vec![b'x'; 100_000])
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(length() <= 32 << 20, "{}", length());
    });
}
