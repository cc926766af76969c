//! Random operations give the same answers on disk as in memory, also when the store is closed and opened between them, and both are etcd's.

use std::sync::Arc;

use kv::{KeyRange, Kv, MemoryKv};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::oracle::Oracle;
use crate::steps::{NUMBERS, answer, everything, step};
use crate::support::{directory, drain, file, open, run, watch};

/// Sequences of steps, and steps in each at most.
const CASES: u32 = 64;
const STEPS_MAX: usize = 120;

#[test]
fn random_operations_answer_like_the_model() {
    let numbers = prop::array::uniform::<_, NUMBERS>(any::<u32>());
    // Each step may be followed by a restart.
    let steps = prop::collection::vec((numbers, 0..40u8), 1..STEPS_MAX);
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&steps, |steps| {
        run(async {
            let directory = directory();
            let path = file(&directory);
            let model: Arc<dyn Kv> = MemoryKv::new();
            let mut oracle = Oracle::new();
            let mut store = open(&path);
            let mut watches = (
                watch(&*model, KeyRange::prefix("a/"), None).await,
                watch(&*store, KeyRange::prefix("a/"), None).await,
            );
            for (numbers, restart) in &steps {
                let step = step(numbers, model.current_revision());
                let (wanted, got) = (answer(&*model, &step).await, answer(&*store, &step).await);
                prop_assert_eq!(&wanted, &got, "{:?}", step);
                prop_assert_eq!(comparable(&wanted), oracle.answer(&step), "{:?}", step);
                if *restart == 0 {
                    prop_assert_eq!(drain(&mut watches.0).await, drain(&mut watches.1).await);
                    store.close().await.expect("the store closes");
                    store = open(&path);
                    let next = model.current_revision() + 1;
                    watches.1 = watch(&*store, KeyRange::prefix("a/"), Some(next)).await;
                }
            }
            prop_assert_eq!(drain(&mut watches.0).await, drain(&mut watches.1).await);
            prop_assert_eq!(everything(&*model).await, everything(&*store).await);
            store.close().await.expect("the store closes");
            prop_assert_eq!(everything(&*model).await, everything(&*open(&path)).await);
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Braces are how `Debug` happens to print sets and structs; the oracle has other types.
fn comparable(answer: &str) -> String {
    answer.replace('{', "[").replace('}', "]")
}
