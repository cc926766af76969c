//! What is kept comes back, whole, and to nobody without the key.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use env::SystemRng;
use sealed_files::{Error, RECORD_BYTES_MAX, Records, SealedFolder};

fn open(path: &Path, secret: &[u8]) -> SealedFolder {
    SealedFolder::open(path, secret, SystemRng::shared()).expect("a folder")
}

fn files(path: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path).expect("a folder");
    entries.flatten().map(|entry| entry.path()).collect()
}

#[test]
fn nothing_is_readable_without_the_key_neither_contents_nor_names() {
    let place = tempfile::tempdir().expect("a place");
    open(place.path(), b"key")
        .write("secrets/door", b"swordfish")
        .expect("written");
    for file in files(place.path()) {
        let bytes = std::fs::read(&file).expect("a file");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("swordfish") && !text.contains("door"));
        assert!(!file.to_string_lossy().contains("door"));
    }
    assert!(
        open(place.path(), b"other")
            .read_all()
            .expect("read")
            .is_empty()
    );
    assert_eq!(
        open(place.path(), b"other")
            .read("secrets/door")
            .expect("read"),
        None
    );
    let found = open(place.path(), b"key")
        .read("secrets/door")
        .expect("read");
    assert_eq!(found.as_deref(), Some(b"swordfish".as_slice()));
}

#[test]
fn a_damaged_record_is_skipped_and_the_others_are_read() {
    let place = tempfile::tempdir().expect("a place");
    let folder = open(place.path(), b"key");
    for name in ["a", "b", "c", "d"] {
        folder.write(name, name.as_bytes()).expect("written");
    }
    let all = files(place.path());
    let mut changed = std::fs::read(&all[0]).expect("a file");
    *changed.last_mut().expect("not empty") ^= 1;
    std::fs::write(&all[0], changed).expect("written");
    std::fs::write(&all[1], b"").expect("written");
    // A record under another's name is no record.
    std::fs::copy(&all[3], &all[2]).expect("copied");
    assert_eq!(folder.read_all().expect("read").len(), 1);
}

#[test]
fn a_record_that_is_too_large_is_refused() {
    let place = tempfile::tempdir().expect("a place");
    let folder = open(place.path(), b"key");
    let refused = folder.write("a", &vec![0; RECORD_BYTES_MAX + 1]);
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    folder
        .write("a", &vec![7; RECORD_BYTES_MAX])
        .expect("written");
    assert_eq!(
        folder.read("a").expect("read").map(|bytes| bytes.len()),
        Some(RECORD_BYTES_MAX)
    );
}

fn counted(path: &Path) -> (Records, Arc<AtomicUsize>) {
    let writes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&writes);
    let after = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (
        Records::open(open(path, b"key"), after).expect("records"),
        writes,
    )
}

#[tokio::test(start_paused = true)]
async fn what_is_put_is_durable_and_what_is_put_later_comes_together() {
    let place = tempfile::tempdir().expect("a place");
    let (records, batches) = counted(place.path());
    records.put("now/a", b"1".to_vec()).await.expect("durable");
    assert_eq!(
        open(place.path(), b"key")
            .read("now/a")
            .expect("read")
            .as_deref(),
        Some(b"1".as_slice())
    );
    for value in [b"1", b"2", b"3"] {
        records.put_later("later/a", || Some(value.to_vec()));
        records.put_later("later/b", || Some(value.to_vec()));
    }
    assert_eq!(records.get("later/a"), None);
    env::sleep(Duration::from_secs(6)).await;
    assert_eq!(records.get("later/a").as_deref(), Some(b"3".as_slice()));
    assert_eq!(records.names("later/"), ["later/a", "later/b"]);
    assert_eq!(batches.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_contents_are_not_written_again_not_even_by_the_next_process() {
    let place = tempfile::tempdir().expect("a place");
    let (records, _) = counted(place.path());
    records.put("a", b"1".to_vec()).await.expect("durable");
    drop(records);
    let (records, batches) = counted(place.path());
    records.put("a", b"1".to_vec()).await.expect("durable");
    assert_eq!(batches.load(Ordering::SeqCst), 0);
    records.remove("a");
    records.flush().await;
    assert_eq!(records.get("a"), None);
    assert!(files(place.path()).is_empty());
}
