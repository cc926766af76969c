//! End-to-end tests: the real binary, stock clients, this machine's kernel. `tests/README.md` says what is where.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

mod address_change;
mod bad_bodies;
mod bad_conditions;
mod bad_joins;
mod buckets;
mod built_in_kubectl;
mod certificates;
mod cni;
mod configuration;
mod confinement;
mod installation;
mod kubectl;
mod leaving;
mod lifecycle;
mod lo_only;
mod node_cli;
mod nodes;
mod offline;
mod proxies;
mod restart;
mod services;
mod several_servers;
mod shared_images;
mod snapshots;
mod streams;
mod upgrade;
mod volumes;
mod workloads;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// A test and the rule it is named after.
pub(crate) type Test = (&'static str, fn());

/// Enough to keep two cores busy while most tests wait.
const THREADS: usize = 4;

const GROUPS: &[(&str, &[Test])] = &[
    ("kubectl", kubectl::TESTS),
    ("streams", streams::TESTS),
    ("workloads", workloads::TESTS),
    ("cni", cni::TESTS),
    ("configuration", configuration::TESTS),
    ("confinement", confinement::TESTS),
    ("lifecycle", lifecycle::TESTS),
    ("services", services::TESTS),
    ("nodes", nodes::TESTS),
    ("address_change", address_change::TESTS),
    ("certificates", certificates::TESTS),
    ("offline", offline::TESTS),
    ("proxies", proxies::TESTS),
    ("node_cli", node_cli::TESTS),
    ("shared_images", shared_images::TESTS),
    ("volumes", volumes::TESTS),
    ("restart", restart::TESTS),
    ("snapshots", snapshots::TESTS),
    ("buckets", buckets::TESTS),
    ("leaving", leaving::TESTS),
    ("upgrade", upgrade::TESTS),
    ("installation", installation::TESTS),
    ("lo_only", lo_only::TESTS),
    ("several_servers", several_servers::TESTS),
    ("bad_bodies", bad_bodies::TESTS),
    ("bad_conditions", bad_conditions::TESTS),
    ("bad_joins", bad_joins::TESTS),
    ("built_in_kubectl", built_in_kubectl::TESTS),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let tests = GROUPS
        .iter()
        .flat_map(|(group, tests)| tests.iter().map(move |test| (group, test)));
    let trials = tests.map(|(group, (name, test))| {
        Trial::test(format!("{group}::{name}"), || {
            test();
            Ok(())
        })
    });
    let trials = trials.collect();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    if !rustix::process::getuid().is_root() {
        eprintln!("end-to-end tests run pods: they need root");
        return ExitCode::FAILURE;
    }
    support::server::sweep_dead_runs();
    let conclusion = libtest_mimic::run(&arguments, trials);
    support::cluster::tear_down();
    nodes::tear_down();
    support::server::remove_work_dir();
    conclusion.exit_code()
}
