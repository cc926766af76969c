//! The runtime through its CRI face, as root, with real containers of busybox. The binary is its own shim.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

mod adoption;
mod confinement;
mod lifecycle;
mod streams;
mod support;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

/// A test and the rule it is named after.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args
        .first()
        .is_some_and(|first| first == containers::shim::ARGUMENT)
    {
        return containers::shim::main(&args[1..]);
    }
    if let Some(code) = adoption::serve_as_child(&args) {
        return code;
    }
    if !support::can_run() {
        println!("skipped: needs root and busybox-static (apt-get install busybox-static)");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let all = [
        lifecycle::TESTS,
        confinement::TESTS,
        streams::TESTS,
        adoption::TESTS,
    ]
    .concat();
    let chosen = all.iter().filter(|(name, _)| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    });
    let mut failed = Vec::new();
    for (name, test) in chosen {
        let result = std::panic::catch_unwind(AssertUnwindSafe(test));
        println!(
            "test {name} ... {}",
            if result.is_ok() { "ok" } else { "FAILED" }
        );
        if result.is_err() {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
