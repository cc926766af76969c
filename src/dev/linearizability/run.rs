//! One run: traffic on a server that is killed again and again, then the judgement.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use etcd_testing::free_port;
use fastrand::Rng;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::child::Start;
use crate::clients::{Phase, Run, Traffic};
use crate::guarantees::{self, Log};
use crate::history::{Call, Operation, Outcome};
use crate::model::Leases;
use crate::search::{self, Failure, Order};
use crate::server::Plant;
use crate::watchers::{Heard, Watcher};

const CLIENTS: u64 = 8;
/// What is watched: everything, but for one watcher.
const WATCHED: [Option<u8>; 4] = [None, None, None, Some(1)];
/// How long a server lives, in milliseconds.
const LIFE_MILLISECONDS: std::ops::Range<u64> = 150..900;
pub(crate) struct Scenario<'a> {
    pub(crate) seed: u64,
    pub(crate) span: Duration,
    pub(crate) leases: Leases,
    pub(crate) plant: Plant,
    /// Where the store is.
    pub(crate) folder: &'a Path,
}

#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) operations: usize,
    pub(crate) unknown: usize,
    pub(crate) kills: usize,
    pub(crate) events: usize,
    pub(crate) judged_in: Duration,
}

/// Errors if a promise was broken.
pub(crate) async fn run(scenario: &Scenario<'_>) -> anyhow::Result<Counted> {
    let (history, heard) = record(scenario).await?;
    let begin = Instant::now();
    let mut counted = Counted {
        operations: history.len(),
        ..Counted::default()
    };
    for operation in &history {
        counted.unknown += usize::from(operation.outcome == Outcome::Unknown);
        counted.kills += usize::from(operation.call == Call::Crash);
    }
    let mut placed: Vec<Operation> = history.clone();
    placed.retain(search::has_a_place);
    let spans = guarantees::spans(&heard)?;
    let log = guarantees::agree(&spans)?;
    let order = order(&placed, scenario.leases, &log)?;
    let old_reads: Vec<Operation> = history
        .into_iter()
        .filter(|operation| matches!(operation.call, Call::ReadOld { .. }))
        .collect();
    counted.events = guarantees::check(&spans, &log, &order, scenario.leases)?;
    guarantees::check_old_reads(&order, &placed, &old_reads)?;
    counted.judged_in = begin.elapsed();
    Ok(counted)
}

type AllHeard = Vec<(Option<u8>, Vec<Heard>)>;

async fn record(scenario: &Scenario<'_>) -> anyhow::Result<(Vec<Operation>, AllHeard)> {
    let mut rng = Rng::with_seed(scenario.seed);
    let folder = TempDir::new_in(scenario.folder).context("make a folder for the store")?;
    let start = Start {
        file: folder.path().join("state.db"),
        port: free_port()?,
        leases: scenario.leases,
        plant: scenario.plant,
    };
    let run = Arc::new(Run {
        begin: Instant::now(),
        port: start.port,
        operations: Mutex::default(),
    });
    let (phase, phases) = watch::channel(Phase::Down);
    let (end, ends) = watch::channel(None);
    let mut clients = Vec::new();
    for id in 0..CLIENTS {
        let traffic = Traffic::new(Arc::clone(&run), rng.fork(), phases.clone(), id + 1);
        clients.push(env::spawn(traffic.run()));
    }
    let watchers = WATCHED.map(|key| {
        let watcher = Watcher {
            run: Arc::clone(&run),
            phases: phases.clone(),
            key,
            reached: 1,
            heard: Vec::new(),
            end: ends.clone(),
        };
        (key, env::spawn(watcher.run()))
    });
    let running = disturb(&start, scenario.span, &mut rng, &run, &phase).await?;
    phase.send_replace(Phase::Over);
    for client in clients {
        client.await.context("a client ends")?;
    }
    let history = std::mem::take(&mut *run.operations.lock().expect("no one panics with it"));
    end.send_replace(Some(last_revision(&history)));
    let mut heard = AllHeard::new();
    for (key, watcher) in watchers {
        let ended = watcher.await.context("a watcher ends")?;
        match ended {
            Ok(all) => heard.push((key, all)),
            Err(late) => bail!("a watcher does not hear of everything: {late}"),
        }
    }
    running.kill().await?;
    Ok((history, heard))
}

/// Kills the server at times that nobody expects, and starts it again at once; leaves the last one running.
async fn disturb(
    start: &Start,
    span: Duration,
    rng: &mut Rng,
    run: &Run,
    phase: &watch::Sender<Phase>,
) -> anyhow::Result<crate::child::Running> {
    let deadline = Instant::now() + span;
    let mut running = start.run().await?;
    let mut epoch = 0;
    loop {
        phase.send_replace(Phase::Up(epoch));
        env::sleep(Duration::from_millis(rng.u64(LIFE_MILLISECONDS))).await;
        if Instant::now() > deadline {
            return Ok(running);
        }
        let called = run.now();
        running.kill().await?;
        phase.send_replace(Phase::Down);
        running = start.run().await?;
        run.note(Operation {
            called,
            returned: run.now(),
            epoch,
            call: Call::Crash,
            outcome: Outcome::Restarted {
                revision: running.revision,
            },
        });
        epoch += 1;
    }
}

fn last_revision(history: &[Operation]) -> i64 {
    let revision = |operation: &Operation| match operation.outcome {
        Outcome::Read { revision, .. }
        | Outcome::Written { revision, .. }
        | Outcome::NotWritten { revision, .. }
        | Outcome::Restarted { revision } => revision,
        _ => 0,
    };
    history.iter().map(revision).max().unwrap_or(0)
}

fn order(history: &[Operation], leases: Leases, heard: &Log) -> anyhow::Result<Order> {
    match search::order(history, leases, heard) {
        Ok(order) => Ok(order),
        Err(Failure::GaveUp) => bail!("the search for an order takes too long"),
        Err(Failure::Violation { last, state, unfit }) => {
            let mut text = format!("no order has a place for {:?}\n  after", history[unfit]);
            for operation in last {
                text += &format!("\n  {:?}", history[operation]);
            }
            text += &format!("\n  which leads to {state:?}");
            bail!("{text}")
        }
    }
}
