//! Fewer steps that still fail: parts are left out as long as what is left fails on empty servers.

use std::path::Path;
use std::time::{Duration, Instant};

use etcd_testing::pb;
use etcd_testing::pb::request_op::Request as Operation;

use crate::episode::Episode;
use crate::steps::{Request, Step};

/// What is not small by then stays as it is.
const TIME_MAX: Duration = Duration::from_mins(4);

/// The smallest list of steps that was found, and how it fails.
pub(crate) async fn shrink(
    program: &Path,
    tmpfs: &Path,
    steps: Vec<Step>,
) -> anyhow::Result<(Vec<Step>, Option<anyhow::Error>)> {
    let deadline = Instant::now() + TIME_MAX;
    let mut steps: Vec<Step> = steps.into_iter().flat_map(Step::apart).collect();
    let mut failure = replay(program, tmpfs, &steps).await?;
    if failure.is_none() {
        return Ok((steps, None));
    }
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut end = steps.len();
        while end > 0 && Instant::now() < deadline {
            let start = end.saturating_sub(size);
            let fewer = [&steps[..start], &steps[end..]].concat();
            if let Some(error) = replay(program, tmpfs, &fewer).await? {
                failure = Some(error);
                steps = fewer;
            }
            end = start.min(steps.len());
        }
        size /= 2;
    }
    let mut at = 0;
    while at < steps.len() && Instant::now() < deadline {
        let mut smaller = simpler(&steps[at]).into_iter();
        let found = loop {
            let Some(step) = smaller.next() else {
                break None;
            };
            let mut fewer = steps.clone();
            fewer[at] = step;
            if let Some(error) = replay(program, tmpfs, &fewer).await? {
                break Some((fewer, error));
            }
        };
        match found {
            Some((fewer, error)) => (steps, failure) = (fewer, Some(error)),
            None => at += 1,
        }
    }
    Ok((steps, failure))
}

/// How a list of steps fails, if it does.
async fn replay(
    program: &Path,
    tmpfs: &Path,
    steps: &[Step],
) -> anyhow::Result<Option<anyhow::Error>> {
    let mut episode = Episode::begin(program, tmpfs).await?;
    for step in steps.iter().chain([&Step::Settle]) {
        if let Err(error) = episode.step(step).await {
            return Ok(Some(error));
        }
    }
    Ok(None)
}

/// A transaction with one operation or condition less, in all ways.
fn simpler(step: &Step) -> Vec<Step> {
    let Step::Together(requests) = step else {
        return Vec::new();
    };
    let [Request::Txn(txn)] = requests.as_slice() else {
        return Vec::new();
    };
    let simpler = simpler_txns(txn).into_iter();
    simpler.map(|txn| Step::one(Request::Txn(txn))).collect()
}

fn simpler_txns(txn: &pb::TxnRequest) -> Vec<pb::TxnRequest> {
    let mut all = Vec::new();
    for at in 0..txn.compare.len() {
        let mut simpler = txn.clone();
        simpler.compare.remove(at);
        all.push(simpler);
    }
    for success in simpler_branches(&txn.success) {
        all.push(pb::TxnRequest {
            success,
            ..txn.clone()
        });
    }
    for failure in simpler_branches(&txn.failure) {
        all.push(pb::TxnRequest {
            failure,
            ..txn.clone()
        });
    }
    all
}

fn simpler_branches(operations: &[pb::RequestOp]) -> Vec<Vec<pb::RequestOp>> {
    let mut all = Vec::new();
    if operations.len() > 1 {
        all.push(Vec::new());
    }
    for (at, operation) in operations.iter().enumerate() {
        let mut simpler = operations.to_vec();
        simpler.remove(at);
        all.push(simpler);
        if let Some(Operation::RequestTxn(inner)) = &operation.request {
            for inner in simpler_txns(inner) {
                let mut simpler = operations.to_vec();
                simpler[at].request = Some(Operation::RequestTxn(inner));
                all.push(simpler);
            }
        }
    }
    all
}
