//! `combo uninstall`: the machine is as it was before Combo.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use host::{Installation, RemovalStep, ServiceSettings};

#[derive(Args)]
pub(crate) struct UninstallCommand {
    /// The service to remove, if several are installed here
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Folder that holds all state, of a server that was not installed as a service
    #[arg(long, short = 'd', value_name = "DIR", conflicts_with = "service")]
    data_dir: Option<PathBuf>,
    /// Keep the data folder: an installation later goes on with it
    #[arg(long)]
    keep_data: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

impl UninstallCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let installation = self.installation()?;
        let data_dir = match (&installation, &self.data_dir) {
            (Some(installation), _) => ServiceSettings::of(installation).data_dir,
            (None, Some(data_dir)) => std::path::absolute(data_dir)?,
            (None, None) => anyhow::bail!(
                "no service is installed here by install.sh: a package is removed with its package manager, the data \
                 folder of a server that was started by hand with --data-dir"
            ),
        };
        if !self.yes && !is_confirmed(installation.as_ref(), &data_dir, self.keep_data)? {
            anyhow::bail!("nothing was removed");
        }
        if let Some(installation) = &installation
            && let Err(why) = installation.disable()
        {
            // A service that cannot be stopped still holds its data folder, and the next step says
            // so.
            eprintln!("combo: the service was not stopped: {why}");
        }
        if !is_shared(installation.as_ref(), &data_dir)? {
            clean_up(&data_dir)?;
            if !self.keep_data {
                tell(host::remove_data(&data_dir)?);
            }
        }
        if let Some(installation) = &installation {
            tell(host::remove(installation)?);
        }
        Ok(())
    }

    fn installation(&self) -> anyhow::Result<Option<Installation>> {
        if self.data_dir.is_some() {
            return Ok(None);
        }
        let mut all = host::installations()?;
        if let Some(service) = &self.service {
            all.retain(|installation| installation.service == *service);
            anyhow::ensure!(
                !all.is_empty(),
                "no service {service:?} is installed here by install.sh"
            );
        }
        if all.len() > 1 {
            let names: Vec<&str> = all.iter().map(|known| known.service.as_str()).collect();
            anyhow::bail!(
                "several services are installed: name one of {} with --service",
                names.join(", ")
            );
        }
        Ok(all.pop())
    }
}

/// Another service may work on the same data folder.
fn is_shared(installation: Option<&Installation>, data_dir: &Path) -> anyhow::Result<bool> {
    let others = host::installations()?;
    Ok(others
        .iter()
        .filter(|other| installation.is_some_and(|own| own.service != other.service))
        .any(|other| ServiceSettings::of(other).data_dir == data_dir))
}

fn clean_up(data_dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime
        .block_on(supervisor::clean_up(data_dir))
        .context("end what runs")
}

/// Only a terminal is asked: a script that says nothing means it.
fn is_confirmed(
    installation: Option<&Installation>,
    data_dir: &Path,
    keep_data: bool,
) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    if let Some(installation) = installation {
        println!(
            "The service {} and its pods are removed.",
            installation.service
        );
    }
    if keep_data {
        println!("{} is kept.", data_dir.display());
    } else {
        println!(
            "{} is removed with all data of the cluster in it.",
            data_dir.display()
        );
    }
    print!("Go on? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tell(steps: impl IntoIterator<Item = RemovalStep>) {
    for step in steps {
        match step {
            RemovalStep::Removed(path) => println!("removed {}", path.display()),
            RemovalStep::BootWords(path) => {
                println!(
                    "the kernel's command line in {} is as before",
                    path.display()
                );
            }
            RemovalStep::Kept { path, why } => println!("kept {}: {why}", path.display()),
        }
    }
}
