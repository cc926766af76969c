//! The runtime through its CRI face, as root, with real containers of busybox. The binary is its own shim.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

mod adoption;
mod confinement;
mod lifecycle;
mod streams;
mod support;

use libtest_mimic::{Arguments, Trial};
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
    let mut arguments = Arguments::from_args();
    // One after the other: they make and look for things of the whole machine.
    arguments.test_threads.get_or_insert(1);
    let all = [
        lifecycle::TESTS,
        confinement::TESTS,
        streams::TESTS,
        adoption::TESTS,
    ]
    .concat();
    let trials = all.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            if support::can_run() {
                test();
            } else {
                println!("skipped: needs root and busybox-static");
            }
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
