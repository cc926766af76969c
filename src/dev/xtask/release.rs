//! The binary as it is shipped.

use std::path::Path;

use anyhow::Context as _;

use crate::judge::succeed;

/// For the last step alone, where everything is compiled: libraries and tests need none of it.
///
/// Code at fixed addresses needs no relocating: each shim would hold 0.7 MB of relocated tables for itself, of the 1 MB that it
/// may have. Functions of equal code are kept once: the same generic code is made for many types.
const FLAGS: &[&str] = &[
    "-C",
    "relocation-model=static",
    "-C",
    "link-arg=-Wl,--icf=all",
];

/// Builds `combo`, and the sample workload beside it. `arguments` go to cargo.
pub(crate) fn build(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let cargo = |arguments: &[&str]| {
        let mut command = std::process::Command::new("cargo");
        command.current_dir(root).args(arguments);
        command
    };
    let combo = ["rustc", "--release", "--package", "combo", "--bin", "combo"];
    let mut combo = cargo(&combo);
    succeed(combo.args(arguments).arg("--").args(FLAGS)).context("build combo")?;
    succeed(&mut cargo(&["build", "--release", "--package", "testkit"]))
        .context("build the sample workload")
}
