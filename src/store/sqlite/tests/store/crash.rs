//! A store that is killed between any two instructions keeps what it acknowledged and uses no revision twice.
//!
//! The test runs itself again as a child, which works on a store and acknowledges over a pipe until it is killed. `COMBO_CRASH_KILLS` sets how often;
//! without it the suite stays short.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use env::{SeededRng, SystemRng};
use kv::{Durability, KeyRange, Kv, MemoryKv, RangeRequest, Revision, Txn};
use sqlite::{Options, SealError, SealedPrefix, Sealer, SqliteKv};

use crate::steps::{NUMBERS, Numbers, Step, answer, everything, step};
use crate::support::{directory, file, open, put, put_operation, run_within};

const KILLS: u32 = 12;
const VARIABLE_KILLS: &str = "COMBO_CRASH_KILLS";
const VARIABLE_STORE: &str = "COMBO_CRASH_STORE";
const VARIABLE_SEED: &str = "COMBO_CRASH_SEED";
const VARIABLE_FIRST: &str = "COMBO_CRASH_FIRST";
/// The longest time that a child lives after its first acknowledgement.
const LIFE_MAX_MICROS: u64 = 60_000;

fn kills() -> u32 {
    std::env::var(VARIABLE_KILLS)
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(KILLS)
}

/// Long enough for all kills on a slow machine.
fn deadline() -> Duration {
    Duration::from_mins(2) + Duration::from_secs(2) * kills()
}

/// A running child, killed when the test ends early.
struct Running(Child);

impl Running {
    /// Kills the child, which must have been at work until now.
    fn kill(mut self) {
        self.0.kill().expect("the child can be killed");
        let status = self.0.wait().expect("the child ends");
        assert_eq!(
            status.signal(),
            Some(9),
            "the child ended by itself: {status}"
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_before = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The test binary as a child in one of its roles.
fn command(role: &str, store: &Path, seed: u64, first: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
    command
        .args(["--exact", role, "--nocapture", "--test-threads=1"])
        .env(VARIABLE_STORE, store)
        .env(VARIABLE_SEED, seed.to_string())
        .env(VARIABLE_FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Runs `role` on a store, kills it at a random moment, and returns the lines that it acknowledged.
fn run_and_kill(role: &str, store: &Path, seed: u64, first: usize) -> Vec<String> {
    let mut child = command(role, store, seed, first)
        .spawn()
        .expect("the test runs itself");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let child = Running(child);
    let (opened, is_open) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            // The line that was being written when the child was killed lacks its end mark.
            let Some(line) = line
                .strip_prefix("ack ")
                .and_then(|line| line.strip_suffix(" end"))
            else {
                continue;
            };
            if lines.is_empty() {
                let _parent_waits = opened.send(());
            }
            lines.push(line.to_owned());
        }
        lines
    });
    is_open
        .recv_timeout(Duration::from_secs(30))
        .expect("the child acknowledges something");
    // The moment of death is the point of the test; there is no condition to wait for.
    #[allow(clippy::disallowed_methods)]
    std::thread::sleep(Duration::from_micros(
        SystemRng::shared().below(LIFE_MAX_MICROS),
    ));
    child.kill();
    reader.join().expect("the child's output")
}

struct Role {
    store: Arc<SqliteKv>,
    seed: u64,
    first: usize,
}

/// What a child has to do; `None` in the ordinary run of the suite.
fn role() -> Option<Role> {
    let variable = |name| std::env::var(name).ok();
    let store = open(Path::new(&variable(VARIABLE_STORE)?));
    // The test's own name stands at the beginning of the line.
    println!();
    let seed = variable(VARIABLE_SEED)?.parse().ok()?;
    Some(Role {
        store,
        seed,
        first: variable(VARIABLE_FIRST)?.parse().ok()?,
    })
}

/// The numbers of the `at`th step: the same in child and parent.
fn numbers(seed: u64, at: usize) -> Numbers {
    let rng = SeededRng::shared(seed.wrapping_add((at as u64) << 20));
    let mut numbers = [0; NUMBERS];
    numbers.fill_with(|| u32::try_from(rng.below(1 << 32)).expect("32 bits"));
    numbers
}

/// The `at`th step; all writes are durable.
fn durable_step(seed: u64, at: usize, revision: Revision) -> Step {
    match step(&numbers(seed, at), revision) {
        Step::Txn(txn, _) => Step::Txn(txn, Durability::Durable),
        other => other,
    }
}

#[test]
fn child_that_makes_random_steps() {
    run_within(deadline(), async {
        let Some(Role { store, seed, first }) = role() else {
            return;
        };
        for at in first.. {
            let step = durable_step(seed, at, store.current_revision());
            println!("ack {at} {} end", answer(&*store, &step).await);
        }
    });
}

#[test]
fn a_killed_store_answers_like_a_model_that_was_not() {
    run_within(deadline(), async {
        let directory = directory();
        let path = file(&directory);
        let seed = SystemRng::shared().next_u64();
        let model = MemoryKv::new();
        let mut done = 0;
        for kill in 0..kills() {
            let acknowledged =
                run_and_kill("crash::child_that_makes_random_steps", &path, seed, done);
            for line in acknowledged {
                let step = durable_step(seed, done, model.current_revision());
                assert_eq!(
                    format!("{done} {}", answer(&*model, &step).await),
                    line,
                    "seed {seed}, kill {kill}, {step:?}"
                );
                done += 1;
            }
            let store = open(&path);
            let after = everything(&*store).await;
            store.close().await.expect("the store closes");
            // The step that was not acknowledged may have been done, whole, or not at all.
            if after != everything(&*model).await {
                let step = durable_step(seed, done, model.current_revision());
                let _unacknowledged = answer(&*model, &step).await;
                done += 1;
                assert_eq!(
                    after,
                    everything(&*model).await,
                    "seed {seed}, kill {kill}, {step:?}"
                );
            }
        }
        assert!(done > kills() as usize);
    });
}

/// Writers of a child that work at the same time.
const WRITERS: usize = 16;

/// Puts ever larger numbers under a key of its own; every third write is relaxed.
async fn count_up(store: Arc<SqliteKv>, writer: usize, first: usize) {
    for number in first.. {
        let durability = if number % 3 == 0 {
            Durability::Relaxed
        } else {
            Durability::Durable
        };
        let operation = put_operation(&format!("w/{writer}"), number.to_string().as_bytes());
        let txn = Txn {
            success: vec![operation],
            ..Txn::default()
        };
        let revision = store.txn(txn, durability).await.expect("a write").revision;
        println!("ack {writer} {number} {revision} {durability:?} end");
    }
}

#[test]
fn child_that_counts_up() {
    run_within(deadline(), async {
        let Some(Role { store, first, .. }) = role() else {
            return;
        };
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| env::spawn(count_up(Arc::clone(&store), writer, first)))
            .collect();
        for writer in writers {
            writer.await.expect("a writer");
        }
    });
}

#[test]
fn acknowledged_writes_survive_and_no_revision_is_used_twice() {
    run_within(deadline(), async {
        let directory = directory();
        let path = file(&directory);
        let mut newest: Revision = 1;
        let mut durable = [(0, 0); WRITERS];
        for kill in 0..kills() {
            // Numbers never repeat, so that a key tells which life of the store wrote it.
            let first = (kill as usize + 1) * 1_000_000;
            let before = newest;
            for line in run_and_kill("crash::child_that_counts_up", &path, 0, first) {
                let fields: Vec<&str> = line.split(' ').collect();
                let (writer, number): (usize, usize) =
                    (fields[0].parse().unwrap(), fields[1].parse().unwrap());
                let revision: Revision = fields[2].parse().unwrap();
                assert!(
                    revision > before,
                    "kill {kill}: revision {revision} was used before"
                );
                newest = newest.max(revision);
                if fields[3] == "Durable" {
                    durable[writer] = (number, revision);
                }
            }
            let store = open(&path);
            assert!(
                store.current_revision() >= newest,
                "kill {kill}: revision {newest} would be used again"
            );
            newest = store.current_revision();
            let all = store
                .range(RangeRequest::newest(KeyRange::prefix("w/")))
                .await
                .expect("everything");
            for (writer, (number, revision)) in durable.iter().enumerate() {
                let key = format!("w/{writer}");
                let entry = all
                    .entries
                    .iter()
                    .find(|entry| *entry.key == *key.as_bytes());
                let found: usize = entry.map_or(0, |entry| {
                    String::from_utf8_lossy(&entry.value).parse().unwrap()
                });
                assert!(
                    found >= *number,
                    "kill {kill}: writer {writer} lost {number} of revision {revision}"
                );
            }
            drop(all);
            store.close().await.expect("the store closes");
        }
    });
}

/// Fails like a bug would.
#[derive(Debug)]
struct Panics;

impl Sealer for Panics {
    fn key_id(&self) -> i64 {
        1
    }

    fn seal(&self, _: &[u8], _: &[u8]) -> (i64, Vec<u8>) {
        panic!("a bug")
    }

    fn knows(&self, _: i64) -> bool {
        false
    }

    fn open(&self, _: i64, _: &[u8], _: &[u8]) -> Result<Vec<u8>, SealError> {
        Err(SealError)
    }
}

#[test]
fn child_whose_writer_panics() {
    run_within(deadline(), async {
        let Ok(path) = std::env::var(VARIABLE_STORE) else {
            return;
        };
        let sealers = vec![SealedPrefix {
            prefix: b"s".to_vec(),
            sealer: Arc::new(Panics),
        }];
        let options = Options {
            sealers,
            ..Options::default()
        };
        let store = SqliteKv::open(Path::new(&path), options).expect("the store opens");
        let _never = put(&*store, "s", b"1").await;
    });
}

#[test]
fn a_panic_in_the_store_ends_the_process() {
    let directory = directory();
    let mut command = command("crash::child_whose_writer_panics", &file(&directory), 0, 0);
    let status = command.status().expect("the test runs itself");
    assert_eq!(status.signal(), Some(6), "{status}");
}
