//! Work on a store that changes nothing of what it holds: copies, checks, other sealing keys, less space.

use std::fs;
use std::sync::Arc;

use env::SystemRng;
use kv::{Error, KeyRange, Kv};
use rusqlite::Connection;
use sqlite::{
    Options, RESTORE_STEP, SealedPrefix, SealingKeys, SqliteKv, check_store, copy_store,
    mark_restored,
};
use tempfile::TempDir;

use crate::support::{delete, directory, drain, file, get, open, put, quiet, run, watch};

fn sealed_by(keys: &Arc<SealingKeys>) -> Vec<SealedPrefix> {
    vec![SealedPrefix {
        prefix: b"s".to_vec(),
        sealer: Arc::clone(keys) as Arc<dyn sqlite::Sealer>,
    }]
}

fn keys(directory: &TempDir) -> Arc<SealingKeys> {
    let path = directory.path().join("keys");
    SealingKeys::load_or_create(&path, SystemRng::shared()).unwrap()
}

fn options(keys: &Arc<SealingKeys>) -> Options {
    Options {
        sealers: sealed_by(keys),
        ..quiet()
    }
}

#[test]
fn a_copy_of_an_open_store_holds_one_moment_and_revisions_go_on_far_above_it() {
    run(async {
        let directory = directory();
        let store = open(&file(&directory));
        put(&*store, "a", b"1").await.unwrap();
        let copied = put(&*store, "a", b"2").await.unwrap();
        let copy = directory.path().join("copy");
        assert_eq!(copy_store(&file(&directory), &copy).unwrap(), copied);
        let later = put(&*store, "b", b"3").await.unwrap();
        store.close().await.unwrap();

        mark_restored(&copy).unwrap();
        let beside = fs::read_dir(directory.path()).unwrap().flatten();
        let left = beside.filter(|entry| entry.file_name().to_string_lossy().starts_with("copy"));
        assert_eq!(left.count(), 1);
        let restored = open(&copy);
        assert_eq!(
            get(&*restored, "a", None).await.unwrap(),
            Some(b"2".to_vec())
        );
        assert_eq!(get(&*restored, "b", None).await.unwrap(), None);
        assert_eq!(restored.current_revision(), copied + RESTORE_STEP);
        let mut seen = watch(&*restored, KeyRange::prefix(""), Some(later)).await;
        assert_eq!(
            drain(&mut seen).await,
            [format!("compacted {}", copied + RESTORE_STEP)]
        );
        let old = get(&*restored, "a", Some(copied)).await.unwrap_err();
        assert!(matches!(old, Error::Compacted { .. }), "{old}");
        restored.close().await.unwrap();
    });
}

#[test]
fn a_copy_never_takes_the_place_of_a_file() {
    run(async {
        let directory = directory();
        let store = open(&file(&directory));
        let copy = directory.path().join("copy");
        fs::write(&copy, "precious").unwrap();
        copy_store(&file(&directory), &copy).unwrap_err();
        assert_eq!(fs::read(&copy).unwrap(), b"precious");
        store.close().await.unwrap();
    });
}

#[test]
fn a_check_beside_the_writer_counts_all_and_names_what_is_damaged() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        let keys = keys(&directory);
        let store = SqliteKv::open(&path, options(&keys)).unwrap();
        put(&*store, "a", b"1").await.unwrap();
        put(&*store, "s/x", b"2").await.unwrap();
        put(&*store, "b", b"3").await.unwrap();
        let revision = delete(&*store, "b").await.unwrap();
        let checked = check_store(&path, sealed_by(&keys)).unwrap();
        assert_eq!(
            (checked.keys, checked.rows, checked.revision),
            (2, 4, revision)
        );
        assert_eq!((checked.sealed[&1], &checked.problems), (1, &Vec::new()));
        store.close().await.unwrap();

        let connection = Connection::open(&path).unwrap();
        let damage = "UPDATE log SET value = x'33' WHERE key = x'61'";
        connection.execute(damage, []).unwrap();
        drop(connection);
        let checked = check_store(&path, sealed_by(&keys)).unwrap();
        assert_eq!(checked.problems.len(), 1);
        assert!(
            checked.problems[0].contains(r#"key "a""#),
            "{:?}",
            checked.problems
        );
    });
}

#[test]
fn another_key_seals_everything_anew_while_the_store_is_open_and_writes_go_on() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        let keys = keys(&directory);
        let store = SqliteKv::open(&path, options(&keys)).unwrap();
        for number in 0..450 {
            put(&*store, &format!("s/{number}"), b"old").await.unwrap();
        }
        let old = put(&*store, "s/0", b"newer").await.unwrap() - 1;
        put(&*store, "plain", b"1").await.unwrap();
        let before = store.current_revision();
        keys.add().unwrap();
        let writer = Arc::clone(&store);
        let writes = env::spawn(async move {
            for number in 0..50 {
                put(&*writer, &format!("s/more{number}"), b"1")
                    .await
                    .unwrap();
            }
        });
        assert!(store.reseal().await.unwrap() >= 451);
        writes.await.unwrap();
        assert_eq!(store.reseal().await.unwrap(), 0);
        assert_eq!(store.current_revision(), before + 50);
        keys.keep_newest().unwrap();
        let checked = check_store(&path, sealed_by(&keys)).unwrap();
        assert_eq!(checked.sealed.into_iter().collect::<Vec<_>>(), [(2, 501)]);
        assert_eq!(
            get(&*store, "s/0", Some(old)).await.unwrap(),
            Some(b"old".to_vec())
        );
        store.close().await.unwrap();
        let again = SqliteKv::open(&path, options(&keys)).unwrap();
        assert_eq!(
            get(&*again, "s/0", None).await.unwrap(),
            Some(b"newer".to_vec())
        );
        again.close().await.unwrap();
    });
}

#[test]
fn vacuum_gives_space_back_and_loses_nothing() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        let store = open(&path);
        for number in 0..200 {
            put(&*store, &format!("k{number}"), &[7; 10_000])
                .await
                .unwrap();
        }
        for number in 1..200 {
            delete(&*store, &format!("k{number}")).await.unwrap();
        }
        store.compact(store.current_revision()).await.unwrap();
        crate::support::until(async || {
            let status = store.status().await.unwrap();
            status.size_in_use_bytes < 500_000
        })
        .await;
        store.vacuum().await.unwrap();
        let status = store.status().await.unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 500_000, "{status:?}");
        assert!(status.size_bytes < 10 << 20, "{status:?}");
        put(&*store, "after", b"1").await.unwrap();
        assert_eq!(
            get(&*store, "k0", None).await.unwrap(),
            Some(vec![7; 10_000])
        );
        store.close().await.unwrap();
        assert_eq!(
            check_store(&path, Vec::new()).unwrap().problems,
            Vec::<String>::new()
        );
    });
}
