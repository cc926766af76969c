//! A flipped bit, wherever it is: what is read afterwards is what was acknowledged, or the store says that it is damaged. (One case is left out
//! because nothing can tell it from a power cut during a write: damage in the log after a power cut that the log's index did not outlive.)

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_testing::pb;
use rusqlite::Connection;
use sqlite::OpenError;

use crate::support::{
    ALARM_CORRUPT, CORRUPT, Server, database, directory, quiet, run, told, until,
};

const PARTS: [&str; 3] = ["", "-wal", "-shm"];
/// Bits that are flipped in the log and its index, one in each try; spread over all of what is used of them.
const FLIPS: usize = 350;
const PAGE: usize = 4096;
/// Where bits are flipped in every page of the database: all over its header, among its first cells, in the middle, at the end.
const OFFSETS: [usize; 9] = [0, 3, 4, 5, 8, 13, 40, 2222, 4090];
/// The look through a store of this size takes no longer, on a slow machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
/// What comes before the first page's own header.
const FILE_HEADER: usize = 100;

/// The files of a store, and what was acknowledged.
struct Saved {
    /// Empty ones are not there.
    files: Vec<Vec<u8>>,
    expected: Vec<(Vec<u8>, Vec<u8>)>,
    leases: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    Clean,
    /// And everything is in the database alone, without a log beside it.
    Moved,
    Killed,
}

/// Values of many sizes, some of them old, some deleted, some forgotten, some on leases.
async fn made(folder: &Path, stop: Stop) -> Saved {
    let file = folder.join("state.db");
    let server = Server::start(&file, quiet()).await;
    for id in [11, 12] {
        let grant = pb::LeaseGrantRequest { ttl: 3600, id };
        server.client.call(grant).await.unwrap();
    }
    for number in 0..400_usize {
        let key = format!("k/{:03}", number % 150);
        let value = vec![b'a' + (number % 26) as u8; 1 + number * number % 5000];
        server.put(&key, &value).await.unwrap();
        if number % 7 == 0 {
            server.delete(&key).await.unwrap();
        }
        if number == 200 {
            server.compact(server.store_revision() - 20).await.unwrap();
        }
    }
    let expected = server.everything().await;
    let files = || PARTS.map(|part| fs::read(beside(&file, part)).unwrap_or_default());
    let killed = files();
    server.stop().await;
    let files = match stop {
        Stop::Killed => killed,
        Stop::Clean => files(),
        Stop::Moved => {
            let sql = Connection::open(&file).unwrap();
            let mode = "PRAGMA journal_mode = DELETE";
            sql.query_row(mode, [], |_| Ok(())).unwrap();
            drop(sql);
            files()
        }
    };
    Saved {
        files: files.into(),
        expected,
        leases: vec![11, 12],
    }
}

fn beside(file: &Path, part: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(part);
    name.into()
}

impl Saved {
    fn put_down(&self, file: &Path) {
        for (part, bytes) in PARTS.iter().zip(&self.files) {
            if !bytes.is_empty() {
                fs::write(beside(file, part), bytes).unwrap();
            }
        }
    }

    /// The bits to flip in one of the files: byte and bit.
    fn bits(&self, part: usize) -> Vec<(usize, usize)> {
        let bytes = &self.files[part];
        let spread = |used: usize| {
            // The head of the file, and a step that is prime to the size of a page.
            let byte = |number| {
                if number < FILE_HEADER {
                    number
                } else {
                    number * 7919
                }
            };
            (0..FLIPS)
                .map(move |number| (byte(number) % used, number % 8))
                .collect()
        };
        match PARTS[part] {
            // A log that was made in advance is mostly empty.
            "-wal" => {
                let salts = &bytes[16..24];
                let frames = bytes[32..].chunks_exact(24 + PAGE);
                let used = frames.take_while(|frame| &frame[8..16] == salts).count();
                spread(32 + used * (24 + PAGE))
            }
            "-shm" => spread(136),
            _ => {
                let in_page = |page| OFFSETS.map(|offset| page * PAGE + offset);
                let pages = (0..bytes.len() / PAGE).flat_map(in_page);
                let head = (0..FILE_HEADER).chain(pages);
                head.enumerate()
                    .map(|(number, byte)| (byte, number * 5 % 8))
                    .collect()
            }
        }
    }
}

/// What became of a store with a flipped bit.
#[derive(Debug, Default)]
struct Outcomes {
    flips: usize,
    refused: BTreeMap<&'static str, usize>,
    /// Nothing was missing.
    whole: usize,
    /// It was noticed a moment later, or by the next write.
    alarmed: usize,
}

/// Flips bits all over one file of a store, one at a time.
async fn flip(stop: Stop, part: usize) -> Outcomes {
    let origin = directory();
    let saved = made(origin.path(), stop).await;
    let bits = saved.bits(part);
    let mut outcomes = Outcomes {
        flips: bits.len(),
        ..Outcomes::default()
    };
    for (byte, bit) in bits {
        let folder = directory();
        let file = database(&folder);
        saved.put_down(&file);
        let path = beside(&file, PARTS[part]);
        let mut bytes = saved.files[part].clone();
        bytes[byte] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        let what = format!("bit {bit} of byte {byte} of {}", path.display());
        match Server::try_start(&file, quiet()).await {
            Err(error) => refused(&error, &what, &mut outcomes),
            Ok(server) => {
                serves(&server, &saved, &what, stop, &mut outcomes).await;
                server.stop().await;
            }
        }
    }
    println!("{stop:?}, {:?}: {outcomes:?}", PARTS[part]);
    outcomes
}

fn refused(error: &OpenError, what: &str, outcomes: &mut Outcomes) {
    let kind = match error {
        OpenError::Damaged { .. } => "damaged",
        OpenError::DamagedRow { .. } => "a row is damaged",
        OpenError::NotAStore { .. } => "not a store",
        OpenError::NewerFormat { .. } => "newer",
        other => panic!("{what}: {other:?}"),
    };
    if kind.contains("damaged") {
        let text = error.to_string();
        assert!(text.contains("combo snapshot restore"), "{text}");
    }
    *outcomes.refused.entry(kind).or_default() += 1;
}

async fn serves(server: &Server, saved: &Saved, what: &str, stop: Stop, outcomes: &mut Outcomes) {
    let found = server.everything().await;
    let mut leases: Vec<i64> = server
        .client
        .call(pb::LeaseLeasesRequest::default())
        .await
        .unwrap()
        .leases
        .iter()
        .map(|lease| lease.id)
        .collect();
    leases.sort_unstable();
    if found != saved.expected || leases != saved.leases {
        // After a clean stop, it is known before anybody reads.
        assert_eq!(stop, Stop::Killed, "{what} was not noticed");
        let noticed = until(|| async { server.raised().await == [ALARM_CORRUPT] });
        let noticed = env::timeout(NOTICED_WITHIN, noticed).await;
        assert!(noticed.is_ok(), "{what} was not noticed");
    }
    match server.put("after", b"1").await {
        Ok(_) if found == saved.expected => outcomes.whole += 1,
        Ok(_) => panic!("{what}: written in a damaged store"),
        Err(refused) => {
            assert_eq!(told(&refused), CORRUPT, "{what}");
            assert_eq!(server.raised().await, [ALARM_CORRUPT], "{what}");
            outcomes.alarmed += 1;
        }
    }
}

impl Outcomes {
    fn noticed(&self) -> usize {
        self.refused.values().sum::<usize>() + self.alarmed
    }
}

#[test]
fn a_flipped_bit_in_the_database_is_noticed_after_a_clean_stop() {
    let outcomes = run(flip(Stop::Moved, 0));
    assert!(outcomes.noticed() > outcomes.flips / 2, "{outcomes:?}");
}

#[test]
fn a_flipped_bit_in_the_database_is_noticed_after_a_kill() {
    let outcomes = run(flip(Stop::Killed, 0));
    assert_eq!(outcomes.noticed() + outcomes.whole, outcomes.flips);
}

#[test]
fn a_flipped_bit_in_the_log_takes_nothing_back_that_was_acknowledged() {
    let outcomes = run(flip(Stop::Killed, 1));
    assert!(outcomes.noticed() > FLIPS * 9 / 10, "{outcomes:?}");
}

#[test]
fn a_log_that_is_not_needed_any_more_may_be_damaged() {
    let outcomes = run(flip(Stop::Clean, 1));
    assert_eq!(outcomes.whole, FLIPS, "{outcomes:?}");
}

#[test]
fn a_flipped_bit_in_the_logs_index_does_no_harm() {
    for stop in [Stop::Clean, Stop::Killed] {
        let outcomes = run(flip(stop, 2));
        assert_eq!(outcomes.whole, FLIPS, "{stop:?}: {outcomes:?}");
    }
}

/// No checksum of a row tells of a row that is not there.
#[test]
fn a_row_that_is_missing_or_came_back_since_a_clean_stop_is_noticed() {
    run(async {
        let folder = directory();
        let file = database(&folder);
        let server = Server::start(&file, quiet()).await;
        for key in ["a", "b", "c"] {
            server.put(key, b"1").await.unwrap();
        }
        server.stop().await;
        let change = |change: &str| {
            let sql = Connection::open(&file).unwrap();
            sql.execute_batch(change).unwrap();
        };
        change("CREATE TABLE kept AS SELECT * FROM log WHERE key = x'62'");
        Server::start(&file, quiet()).await.stop().await;
        change("DELETE FROM log WHERE key = x'62'");
        let error = Server::try_start(&file, quiet()).await.err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains("what is in it is not what was in it at the last stop"),
            "{text}"
        );
        change("INSERT INTO log SELECT * FROM kept");
        let server = Server::start(&file, quiet()).await;
        server.delete("b").await.unwrap();
        server.compact(server.store_revision()).await.unwrap();
        server.stop().await;
        change("INSERT INTO log SELECT * FROM kept");
        let error = Server::try_start(&file, quiet()).await.err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    });
}

#[test]
fn damage_that_a_read_finds_makes_the_store_read_only_until_somebody_says_otherwise() {
    run(async {
        let folder = directory();
        let file = database(&folder);
        let server = Server::start(&file, quiet()).await;
        let old = server.put("a", b"old").await.unwrap();
        server.put("a", b"new").await.unwrap();
        let grant = pb::LeaseGrantRequest { ttl: 60, id: 5 };
        server.client.call(grant).await.unwrap();
        let sql = Connection::open(&file).unwrap();
        let damage = "UPDATE log SET value = x'00' WHERE id = (SELECT min(id) FROM log)";
        assert_eq!(sql.execute(damage, []).unwrap(), 1);
        drop(sql);

        assert_eq!(told(&server.get("a", old).await.unwrap_err()), CORRUPT);
        assert_eq!(server.raised().await, [ALARM_CORRUPT]);
        assert_eq!(server.get("a", 0).await.unwrap().unwrap(), b"new");
        assert_eq!(told(&server.put("b", b"1").await.unwrap_err()), CORRUPT);
        assert_eq!(told(&server.delete("a").await.unwrap_err()), CORRUPT);
        assert_eq!(told(&server.compact(3).await.unwrap_err()), CORRUPT);
        let revoke = server.client.call(pb::LeaseRevokeRequest { id: 5 }).await;
        assert_eq!(told(&revoke.unwrap_err()), CORRUPT);
        let (code, body) = server.page("/readyz").await;
        assert_eq!(code, 503);
        assert!(
            body.contains("[-]data_corruption failed: alarm activated: CORRUPT"),
            "{body}"
        );
        assert_eq!(server.page("/livez").await.0, 200);
        assert_eq!(
            server.page("/health").await.1.trim_end(),
            r#"{"health":"false","reason":"ALARM CORRUPT"}"#
        );

        assert_eq!(server.disarm(pb::AlarmType::Corrupt).await, 1);
        server.put("b", b"1").await.unwrap();
        server.stop().await;
    });
}
