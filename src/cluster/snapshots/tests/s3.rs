//! Copies in a bucket: what is there, and what the other side may not do.

use std::fs::File;

use config::{BucketLookup, S3Config};
use testkit::object_store::{ObjectStore, answer, error, xml};

use super::*;

fn config(store: &ObjectStore) -> S3Config {
    S3Config {
        endpoint: store.address.to_string(),
        is_plain: true,
        authority_file: None,
        believes_anybody: false,
        access_key: ObjectStore::ACCESS_KEY.to_owned(),
        secret_key: ObjectStore::SECRET_KEY.to_owned(),
        session_token: Some(ObjectStore::SESSION_TOKEN.to_owned()),
        bucket: ObjectStore::BUCKET.to_owned(),
        lookup: BucketLookup::Path,
        region: "us-east-1".to_owned(),
        folder: "a folder/of mine/".to_owned(),
        retention: None,
        proxy: None,
        timeout: Duration::from_secs(60),
    }
}

fn bucket(config: &S3Config) -> Bucket {
    Bucket::open(config, SystemClock::shared()).unwrap()
}

/// What is told of a failure; no key is in it.
fn why<T: std::fmt::Debug>(done: Result<T>) -> String {
    let why = done.unwrap_err().to_string();
    for secret in [
        ObjectStore::ACCESS_KEY,
        ObjectStore::SECRET_KEY,
        ObjectStore::SESSION_TOKEN,
        "X-Amz",
    ] {
        assert!(!why.contains(secret), "{why}");
    }
    why
}

fn names(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|listed| listed.name.as_str()).collect()
}

#[tokio::test]
async fn copies_are_listed_page_by_page_pruned_as_in_a_folder_and_restored() {
    let (store, cluster) = (ObjectStore::start(), Cluster::new());
    put(&cluster.store, "a", b"1").await;
    let bucket = bucket(&config(&store));
    let mut saved = Vec::new();
    for (series, at) in [("x", 1), ("x", 2), ("x", 3), ("x-y", 1), ("x-y", 2)] {
        saved.push(cluster.save(series, at, None));
        let place = bucket.upload(&saved.last().unwrap().path).await.unwrap();
        let expected = format!("s3://backups/a folder/of mine/{series}-node-{at}.snapshot");
        assert_eq!(place, expected);
    }
    store.put("a folder/of mine/x-odd.snapshot", b"odd".to_vec());
    store.put("a folder/of mine/x-below/x-node-9.snapshot", Vec::new());
    store.put("x-node-8.snapshot", Vec::new());
    let listed = bucket.list("").await.unwrap();
    let expected = [
        "x-node-3.snapshot",
        "x-y-node-2.snapshot",
        "x-node-2.snapshot",
        "x-y-node-1.snapshot",
        "x-node-1.snapshot",
        "x-odd.snapshot",
    ];
    assert_eq!(names(&listed), expected);
    assert_eq!(listed[0].bytes, saved[2].bytes);
    assert_eq!(listed[0].header.as_ref().unwrap(), &saved[2].header);

    let removed = bucket.prune("x", 1).await.unwrap();
    assert_eq!(removed, ["x-node-2.snapshot", "x-node-1.snapshot"]);
    assert!(bucket.delete("x-y-node-1.snapshot").await.unwrap());
    assert!(!bucket.delete("x-y-node-1.snapshot").await.unwrap());
    let left = bucket.list("").await.unwrap();
    assert_eq!(
        names(&left),
        ["x-node-3.snapshot", "x-y-node-2.snapshot", "x-odd.snapshot"]
    );

    let copy = cluster.folder.path().join("copy");
    bucket.download("x-node-3.snapshot", &copy).await.unwrap();
    let restored = cluster.restore(&copy, &cluster.blank("restored")).unwrap();
    assert_eq!(restored.keys, 1);
    let gone = bucket.download("x-node-1.snapshot", &copy).await;
    assert!(why(gone).contains("NoSuchKey"));
}

#[tokio::test]
async fn a_large_snapshot_goes_in_parts_and_none_stays_where_one_fails() {
    let store = ObjectStore::start();
    let bucket = bucket(&config(&store));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large-node-1.snapshot");
    let file = File::create(&path).unwrap();
    let bytes = (64 << 20) + 5;
    file.set_len(bytes).unwrap();
    bucket.upload(&path).await.unwrap();
    let object = store
        .object("a folder/of mine/large-node-1.snapshot")
        .unwrap();
    assert_eq!((object.len() as u64, store.uploads()), (bytes, 0));

    store.misbehave(|_, target| {
        let is_second = target.contains("partNumber=2");
        is_second.then(|| error(403, "AccessDenied"))
    });
    let refused = why(bucket.upload(&path).await);
    assert!(refused.contains("AccessDenied"), "{refused}");
    assert_eq!(store.uploads(), 0);
    // An error that comes after the status.
    store.misbehave(|method, target| {
        let is_end = method == "POST" && target.contains("uploadId");
        let text = b"<Error><Code>InternalError</Code></Error>";
        is_end.then(|| answer("200 OK", "", text))
    });
    let refused = why(bucket.upload(&path).await);
    assert!(refused.contains("InternalError"), "{refused}");
}

#[tokio::test]
async fn a_store_that_fails_once_is_asked_again() {
    let store = ObjectStore::start();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    store.misbehave(move |_, _| {
        let is_first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        is_first.then(|| error(503, "SlowDown"))
    });
    assert!(bucket(&config(&store)).list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn who_signs_with_other_keys_is_told_what_is_wrong() {
    let store = ObjectStore::start();
    type Change = fn(&mut S3Config);
    let wrong: [(Change, &str); 5] = [
        (
            |config| config.access_key = "AK".into(),
            "InvalidAccessKeyId",
        ),
        (
            |config| config.secret_key = "wrong".into(),
            "SignatureDoesNotMatch",
        ),
        (
            |config| config.session_token = Some("old".into()),
            "--etcd-s3-session-token",
        ),
        (
            |config| config.bucket = "other".into(),
            "there is no such bucket",
        ),
        (
            |config| config.endpoint = "127.0.0.1:1".into(),
            "127.0.0.1:1",
        ),
    ];
    for (change, told) in wrong {
        let mut config = config(&store);
        change(&mut config);
        let refused = why(bucket(&config).list("").await);
        assert!(refused.contains(told), "{told}: {refused}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_of_something_else_is_refused() {
    let store = ObjectStore::start();
    let bucket = bucket(&config(&store));
    let listed = |key: &str| {
        xml(
            "ListBucketResult",
            &format!("<Contents><Key>{key}</Key></Contents>"),
        )
    };
    let endless = "<NextContinuationToken>x</NextContinuationToken>";
    let long = "x".repeat(5 << 20);
    for (answer, told) in [
        (listed("../../etc/shadow.snapshot"), "outside of the folder"),
        (
            listed(&format!("a folder/of mine/{long}")),
            "longer than 4194304 bytes",
        ),
        (xml("ListBucketResult", endless), "more than 100 pages"),
        (xml("SomethingElse", ""), "is no list"),
        (answer("200 OK", "", b"\xff\xfe"), "is no text"),
        (
            answer("307 Moved", "Location: http://127.0.0.1:1/\r\n", b""),
            "another place",
        ),
    ] {
        store.misbehave(move |_, _| Some(answer.clone()));
        let refused = why(bucket.list("").await);
        assert!(refused.contains(told), "{told}: {refused}");
    }
    // Names that would lead elsewhere are none of a snapshot.
    let odd = xml(
        "ListBucketResult",
        "<Contents><Key>a folder/of mine/..%2F..%2Fx.snapshot</Key></Contents>\
         <Contents><Key>a folder/of mine/%1B[2J.snapshot</Key></Contents><EncodingType>url</EncodingType>",
    );
    store.misbehave(move |_, _| Some(odd.clone()));
    assert!(bucket.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_download_has_the_length_that_was_said_and_a_name_of_a_snapshot() {
    let store = ObjectStore::start();
    let bucket = bucket(&config(&store));
    let folder = tempfile::tempdir().unwrap();
    for (at, (answer, told)) in [
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), "does not say a length"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n".to_vec(),
            "at most",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        store.misbehave(move |_, _| Some(answer.clone()));
        let target = folder.path().join(at.to_string());
        let refused = why(bucket.download("x.snapshot", &target).await);
        assert!(refused.contains(told), "{told}: {refused}");
        assert!(!target.exists());
    }
    for name in ["../x.snapshot", "x", "", ".x.snapshot", "a/b.snapshot"] {
        let refused = why(bucket.download(name, &folder.path().join("y")).await);
        assert!(refused.contains("no name of a snapshot"), "{refused}");
    }
    // What has another length there than here is no copy.
    store.misbehave(|method, _| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n".to_vec();
        (method == "HEAD").then_some(head)
    });
    let path = folder.path().join("x.snapshot");
    fs::write(&path, "four").unwrap();
    let refused = why(bucket.upload(&path).await);
    assert!(refused.contains("3 bytes there, and 4 here"), "{refused}");
}
