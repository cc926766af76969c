//! `combo migrate`: a store made of that of another Kubernetes.

use std::collections::BTreeMap;
use std::path::Path;

use bootstrap::DataDir;
use clap::Args;
use env::{SystemClock, SystemRng};
use migration::{LeftOut, Source, migrate};
use supervisor::sealed_prefixes;

use super::stored::{DataDirFlag, EtcdFiles};

#[derive(Args)]
pub(crate) struct MigrateCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
    /// The database of a stopped k3s server, or the URLs of an etcd cluster with commas between, of any Kubernetes whose API
    /// servers are stopped; it stays as it is
    #[arg(
        long,
        default_value = "/var/lib/rancher/k3s/server/db/state.db",
        value_name = "FILE|URLS"
    )]
    from: String,
    #[command(flatten)]
    etcd: EtcdFiles,
}

impl MigrateCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        let client = self.etcd.client(&self.from)?;
        let source = match &client {
            Some(client) => Source::Etcd(client),
            None => Source::Kine(Path::new(&self.from)),
        };
        let now = SystemClock::shared().now();
        let migrated = super::stored::runtime()?.block_on(migrate(
            source,
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
        tell_left_out(&migrated.left_out);
        eprintln!(
            "combo: start the server with the ranges of addresses that the cluster had, --cluster-cidr and --service-cidr. \
             Its authorities and tokens are its own, so nodes join anew."
        );
        Ok(())
    }
}

/// How many keys did not come along, for each reason.
pub(super) fn tell_left_out(left_out: &[LeftOut]) {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for left in left_out {
        *reasons.entry(left.why).or_default() += 1;
    }
    for (why, count) in reasons {
        println!("left out: {count} keys, {why}");
    }
}
