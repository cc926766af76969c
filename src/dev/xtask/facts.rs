//! Makes the facts of the built-in kinds, and the examples that tests read, from Kubernetes' Go modules.
//!
//! The outputs are committed, so that only whoever raises the Kubernetes version needs Go.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

const PROGRAM: &str = "src/dev/xtask/facts";

/// What the program is asked for, and where it goes.
const FILES: [(&str, &str); 5] = [
    ("blob", "src/api/schema/facts.bin"),
    ("pairs", "src/api/codec/tests/data/pairs.gz"),
    ("refusals", "src/api/schema/tests/data/refusals.gz"),
    ("judgements", "src/api/schema/tests/data/judgements.gz"),
    ("definitions", "src/api/schema/tests/data/definitions.gz"),
];

/// Runs the Go program for every file it writes. Needs Go of the version its go.mod names, and the module cache or
/// a module proxy.
pub(crate) fn generate() -> anyhow::Result<()> {
    let root = workspace_root()?;
    for (command, file) in FILES {
        run(&root.join(PROGRAM), command, &root.join(file))?;
    }
    Ok(())
}

fn workspace_root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here
        .ancestors()
        .nth(3)
        .context("xtask lies three folders below the root")?;
    Ok(root.to_owned())
}

fn run(program: &Path, command: &str, file: &Path) -> anyhow::Result<()> {
    let status = Command::new("go")
        .args(["run", "-trimpath", ".", command])
        .arg(file)
        .current_dir(program)
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .status()
        .context("run go: is it installed?")?;
    if !status.success() {
        bail!("facts {command} failed: {status}");
    }
    Ok(())
}
