//! `combo migrate`: a store made of a stopped k3s server's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bootstrap::DataDir;
use clap::Args;
use env::{SystemClock, SystemRng};
use migration::migrate;
use supervisor::sealed_prefixes;

use super::stored::DataDirFlag;

#[derive(Args)]
pub(crate) struct MigrateCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
    /// The database of the stopped k3s server; it stays as it is
    #[arg(
        long,
        default_value = "/var/lib/rancher/k3s/server/db/state.db",
        value_name = "FILE"
    )]
    from: PathBuf,
}

impl MigrateCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let now = SystemClock::shared().now();
        let migrated = runtime.block_on(migrate(
            &self.from,
            &data_dir,
            sealed_prefixes,
            (now, &SystemRng::shared()),
        ))?;
        println!(
            "{} objects are in {}, each compared; {} claims of Services were made",
            migrated.objects,
            data_dir.database().display(),
            migrated.claims
        );
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for left in &migrated.left_out {
            *reasons.entry(left.why).or_default() += 1;
        }
        for (why, count) in reasons {
            println!("left out: {count} keys, {why}");
        }
        eprintln!(
            "combo: start the server with the ranges of addresses that k3s had, --cluster-cidr and --service-cidr. Its \
             authorities and tokens are its own, so nodes join anew."
        );
        Ok(())
    }
}
