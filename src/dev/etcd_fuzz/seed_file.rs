//! Where a run goes on: the next seed, and what all runs did so far.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) next_seed: u64,
    pub(crate) requests: u64,
    /// With those in transactions.
    pub(crate) operations: u64,
}

impl Progress {
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let Ok(text) = fs::read_to_string(file) else {
            return Ok(Self::default());
        };
        let mut progress = Self::default();
        for line in text.lines() {
            let (name, number) = line
                .split_once(' ')
                .context("a line has a name and a number")?;
            let number = number
                .parse()
                .with_context(|| format!("the number of {name}"))?;
            match name {
                "next_seed" => progress.next_seed = number,
                "requests" => progress.requests = number,
                "operations" => progress.operations = number,
                _ => bail!("{} has an unknown name: {name}", file.display()),
            }
        }
        Ok(progress)
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = format!(
            "next_seed {}\nrequests {}\noperations {}\n",
            self.next_seed, self.requests, self.operations
        );
        let draft = file.with_extension("draft");
        fs::write(&draft, text)?;
        fs::rename(&draft, file).with_context(|| format!("write {}", file.display()))
    }
}
