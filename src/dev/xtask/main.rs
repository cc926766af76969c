//! Every developer task: `cargo xtask <task>`.

mod descriptions;
mod facts;
mod image;
mod judge;
mod package;
mod release;
mod tidy;
mod upstream_texts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <task>

  tidy                                  check the layers, sizes and house rules
  gen                                   make the facts of the built-in kinds with Go
  descriptions                          make the texts that a build with the feature `descriptions` shows
  release [ARGUMENT…]                   build the binary as it is shipped; arguments are cargo's, such as --features
  package BINARY [FOLDER]               write a .deb and an .rpm of a built binary; target/packages
  image BINARY REFERENCE ARCHIVE        pack a static binary as an OCI archive
  bench [--idle-minutes N] [binary|start|node|api|agent|network|services]…
                                        measure the release binary; beside upstream's in COMBO_UPSTREAM_BIN
  bench store [PART]…                   measure the store beside etcd, and kine where it is in that folder
  conformance KUBECONFIG [ARGUMENT…]    run upstream's suite by the kit in COMBO_CONFORMANCE_KIT
  fuzz [--seconds N] [--seed S] [TARGET]…
                                        feed hostile input to all that reads what strangers send; N seconds a target
  fuzz --input FILE TARGET              feed one input again
  etcd diff FOLDER|gen|serve FILE PORT  compare with the etcd and etcdctl in FOLDER; make the code; serve a store
  fuzz-etcd FOLDER [ARGUMENT…]          ask the etcd in FOLDER and our store the same by the million, and compare the answers
  churn                                 write ten million times to a store, and look at its file, log and memory
  power-loss [STATES [SEED]]            rebuild disks that a power cut leaves behind, and look at the store in each; root
  linearizability [ARGUMENT…]           clients and watchers on a store that is killed again and again: no broken promise
  crash [KILLS]                         kill the store, then whole servers, and look for lost writes
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["tidy"] => tidy::run(&root()),
        ["gen"] => facts::generate(),
        ["descriptions"] => descriptions::generate(&root()),
        ["image", binary, reference, archive] => {
            image::pack(Path::new(binary), reference, Path::new(archive))
        }
        ["package", binary] => {
            package::build(&root(), Path::new(binary), &root().join("target/packages"))
        }
        ["package", binary, folder] => {
            package::build(&root(), Path::new(binary), Path::new(folder))
        }
        ["release", arguments @ ..] => release::build(&root(), arguments),
        ["bench", parts @ ..] if parts.contains(&"store") => {
            judge::own_measured(&root(), "bench", parts)
        }
        ["bench", parts @ ..] => judge::own(&root(), "bench", parts),
        ["conformance", kubeconfig, arguments @ ..] => {
            judge::conformance(&root(), kubeconfig, arguments)
        }
        ["etcd", words @ ..] => judge::own(&root(), "etcd_tools", words),
        ["linearizability", words @ ..] => judge::own_fast(&root(), "linearizability", words),
        ["fuzz-etcd", words @ ..] => judge::own_fast(&root(), "etcd_fuzz", words),
        ["fuzz", words @ ..] => judge::own(&root(), "fuzz", words),
        ["churn"] => judge::own_measured(&root(), "bench", &["store", "churn"]),
        ["power-loss", words @ ..] => judge::own(&root(), "power_loss", words),
        ["crash", kills @ ..] if kills.len() < 2 => judge::crash(&root(), kills.first().copied()),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(3).unwrap_or(manifest).to_owned()
}
