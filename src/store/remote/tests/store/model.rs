//! Random operations give the same answers through etcd's API as in memory, also from a store that was opened in between.

use etcd_testing::Etcd;
use std::sync::Arc;

use kv::{KeyRange, Kv, MemoryKv, Operation, Txn};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use remote::RemoteKv;

use crate::front;
use crate::steps::{NUMBERS, Step, answer, everything, step};
use crate::support::{drain, open, run, watch};

/// Sequences of steps, and steps in each at most.
const CASES: u32 = 24;
const STEPS_MAX: usize = 80;

#[derive(Clone, Copy)]
enum Whose {
    Ours,
    Etcds,
}

#[test]
fn random_operations_answer_like_the_model() {
    compare(Whose::Ours);
}

#[test]
fn random_operations_on_a_real_etcd_answer_like_the_model() {
    if std::env::var_os("COMBO_ETCD").is_some() {
        compare(Whose::Etcds);
    } else {
        eprintln!("skipped: COMBO_ETCD names no etcd; `tests/etcd.sh` prints the path of one");
    }
}

fn compare(whose: Whose) {
    let numbers = prop::array::uniform::<_, NUMBERS>(any::<u32>());
    // After each step the store may be opened anew: what was before is history to it.
    let steps = prop::collection::vec((numbers, 0..20u8), 1..STEPS_MAX);
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        max_shrink_iters: 64,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&steps, |steps| {
        run(async {
            match whose {
                Whose::Ours => {
                    let (_kv, front) = front::memory().await;
                    compare_at(&front.url, &steps, Whose::Ours).await
                }
                Whose::Etcds => {
                    let folder = tempfile::tempdir().expect("a folder");
                    let etcd = Etcd::named(folder.path())
                        .expect("an etcd")
                        .expect("started");
                    compare_at(&etcd.url(), &steps, Whose::Etcds).await
                }
            }
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

async fn compare_at(
    url: &str,
    steps: &[([u32; NUMBERS], u8)],
    whose: Whose,
) -> Result<(), TestCaseError> {
    let model: Arc<dyn Kv> = MemoryKv::new();
    let mut store = open(url).await;
    let mut watches = (
        watch(&*model, KeyRange::prefix("a/"), None).await,
        watch(&*store, KeyRange::prefix("a/"), None).await,
    );
    for (numbers, reopen) in steps {
        let step = step(numbers, model.current_revision());
        if !is_expressible(&step) {
            continue;
        }
        let wanted = answer(&*model, &step).await;
        prop_assert_eq!(wanted, answer(&*store, &step).await, "{:?}", step);
        in_step(&store, &*model).await;
        if *reopen == 0 {
            prop_assert_eq!(drain(&mut watches.0).await, drain(&mut watches.1).await);
            store = open(url).await;
            let next = model.current_revision() + 1;
            watches.1 = watch(&*store, KeyRange::prefix("a/"), Some(next)).await;
        }
    }
    prop_assert_eq!(drain(&mut watches.0).await, drain(&mut watches.1).await);
    if matches!(whose, Whose::Ours) {
        prop_assert_eq!(everything(&*model).await, everything(&*store).await);
    }
    Ok(())
}

/// Whether etcd has words for it.
fn is_expressible(step: &Step) -> bool {
    fn all(txn: &Txn) -> bool {
        let mut operations = txn.success.iter().chain(&txn.failure);
        operations.all(|operation| match operation {
            Operation::Update { value, lease, .. } => value.is_none() || lease.is_none(),
            Operation::Txn(inner) => all(inner),
            // It may stand beside puts that it deletes, of which etcd tells watchers no previous value.
            Operation::DeleteRange(range) => range.end != Some(Vec::new()),
            // On the wire revision 0 is the newest.
            Operation::Range(request) => request.revision != Some(0),
            Operation::Put { .. } => true,
        })
    }
    match step {
        Step::Txn(txn, _) => all(txn),
        Step::Range(request) => request.revision != Some(0),
        // A store that is opened later cannot tell a compaction below the first write from none.
        // etcd watches no empty range.
        Step::Watch(range, _) => {
            let mut end = range.end.iter().filter(|end| !end.is_empty());
            end.all(|end| *end > range.start)
        }
        Step::Compact(revision) => *revision > 1,
        _ => true,
    }
}

/// Reads consistently, so that what the mirror says by itself is as new as the model.
async fn in_step(store: &RemoteKv, model: &dyn Kv) {
    let nothing = kv::RangeRequest::newest(KeyRange::key("-"));
    store.range(nothing).await.expect("a read");
    assert_eq!(store.current_revision(), model.current_revision());
}
