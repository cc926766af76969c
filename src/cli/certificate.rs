//! `combo certificate`: when certificates end, and authorities that take the place of others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::{DataDir, Trust};
use clap::{Args, Subcommand, ValueEnum};
use env::{SystemClock, SystemRng, Timestamp};
use host::{Certificate, Standing};
use serde::Serialize;

use super::stored::DataDirFlag;

#[derive(Subcommand)]
pub(crate) enum CertificateCommand {
    /// List the certificates of this machine and when they end
    Check(CheckCommand),
    /// Prepare new authorities, signed by those that they follow; they count from the server's next start on
    #[command(name = "rotate-ca")]
    RotateCa(RotateCaCommand),
}

#[derive(Args)]
pub(crate) struct CheckCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
    /// How to print it
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Args)]
pub(crate) struct RotateCaCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
    /// Folder with authorities of your own in place of new ones: any of server-ca, client-ca and request-header-ca, as .crt (the
    /// one that signs first, then up to its root) and .key (ECDSA on P-256, PKCS #8)
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Believe the former authorities no longer, because somebody else has their keys: nodes have to join anew
    #[arg(long)]
    force: bool,
}

impl CertificateCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(command) => command.run(),
            Self::RotateCa(command) => command.run(),
        }
    }
}

/// As it is printed in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(flatten)]
    certificate: Certificate,
    expires: String,
    status: Standing,
}

impl CheckCommand {
    fn run(self) -> anyhow::Result<()> {
        let folder = self.data_dir.folder()?;
        let now = SystemClock::shared().now();
        let found = host::certificates(&folder);
        anyhow::ensure!(
            !found.is_empty(),
            "there are no certificates in {}: no server or agent ever started with this data folder, or you may not read it",
            folder.display()
        );
        match self.output {
            Output::Json => {
                let listed: Vec<Listed> = found.into_iter().map(|one| listed(one, now)).collect();
                println!("{}", serde_json::to_string_pretty(&listed)?);
            }
            Output::Table => print_table(&folder, &found, now),
        }
        Ok(())
    }
}

fn listed(certificate: Certificate, now: Timestamp) -> Listed {
    Listed {
        expires: expires(&certificate),
        status: certificate.standing(now),
        certificate,
    }
}

fn expires(certificate: &Certificate) -> String {
    Timestamp::from_unix_seconds(certificate.expires_unix).to_seconds_string()
}

fn print_table(folder: &Path, found: &[Certificate], now: Timestamp) {
    println!(
        "{:<40} {:<34} {:<21} {:<7} STATUS",
        "FILE", "SUBJECT", "EXPIRES", "LEFT"
    );
    for one in found {
        let file = one.path.strip_prefix(folder).unwrap_or(&one.path);
        let status = match one.standing(now) {
            Standing::Good => "OK",
            Standing::EndsSoon => "WARNING",
            Standing::Ended => "EXPIRED",
        };
        println!(
            "{:<40} {:<34} {:<21} {:<7} {status}",
            file.display().to_string(),
            one.subject,
            expires(one),
            short(one.left(now))
        );
    }
}

/// The largest unit, as people say it.
fn short(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 86_400, seconds / 3_600, seconds / 60) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, _) => format!("{hours}h"),
        (days, _, _) => format!("{days}d"),
    }
}

impl RotateCaCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        if let Some(folder) = &self.path {
            let key = folder.join("service.key");
            anyhow::ensure!(
                !key.exists(),
                "{} is the key of service account tokens, which is no authority's: give it to the server with \
                 --service-account-signing-key-file, the one before with --service-account-key-file, and take it away here",
                key.display()
            );
        }
        let trust = if self.force {
            Trust::Broken
        } else {
            Trust::HandedOver
        };
        let (clock, rng) = (SystemClock::shared(), SystemRng::shared());
        let given = self.path.as_deref();
        let means = (&*clock, &*rng);
        for successor in bootstrap::prepare_successors(&data_dir, given, trust, means)? {
            println!(
                "{}: {}, until {}",
                successor.name,
                successor.common_name,
                successor.ends.to_seconds_string()
            );
        }
        eprintln!("combo: {}", next_steps(trust));
        Ok(())
    }
}

fn next_steps(trust: Trust) -> &'static str {
    match trust {
        Trust::HandedOver => {
            "restart the server, and they count; pods run on. Nodes learn of them by themselves. Kubeconfigs and tokens of \
             before are good until the former authority ends; new ones are written at the start. Kubeconfigs that name only \
             the former authority should be made anew before: combo kubeconfig"
        }
        Trust::Broken => {
            "restart the server, and nothing that the former authorities signed counts any more. On each agent: stop it, \
             remove server-ca.crt from agent/ in its data folder, give it the token that the server then has in \
             server/agent-token, and start it; its pods run on. Kubeconfigs have to be made anew: combo kubeconfig"
        }
    }
}
