//! `combo`: Kubernetes for the edge in one binary.

mod cli;

use std::process::ExitCode;

use containers::shim;

/// Returns memory to the system and costs little when idle; see `.cargo/config.toml` for its build settings.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A shim is this binary again: nothing may run before it, no thread and no runtime.
    match arguments.split_first() {
        Some((first, rest)) if first == shim::ARGUMENT => shim::main(rest),
        _ => cli::run(),
    }
}
