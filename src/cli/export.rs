//! `combo export`: the way back, to a k3s or to an etcd.

use std::path::PathBuf;

use bootstrap::DataDir;
use clap::Args;
use env::SystemRng;
use migration::{Target, export};
use supervisor::sealed_prefixes;

use super::migrate::tell_left_out;
use super::stored::{DataDirFlag, EtcdFiles};

#[derive(Args)]
pub(crate) struct ExportCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
    /// A new file, which k3s reads as its server/db/state.db, or the URLs of an etcd cluster without objects, with commas
    /// between
    #[arg(long, value_name = "FILE|URLS")]
    to: String,
    #[command(flatten)]
    etcd: EtcdFiles,
}

impl ExportCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        let client = self.etcd.client(&self.to)?;
        let file = PathBuf::from(&self.to);
        let target = match &client {
            Some(client) => Target::Etcd(client),
            None => Target::Kine(&file),
        };
        let rng = SystemRng::shared();
        let work = export(&data_dir, target, sealed_prefixes, &rng);
        let exported = super::stored::runtime()?.block_on(work)?;
        println!(
            "{} objects of revision {} are in {}, each compared",
            exported.objects, exported.revision, self.to
        );
        tell_left_out(&exported.left_out);
        eprintln!(
            "combo: Secrets are plain in it. Authorities and tokens are not in it: those who read it have their own, and \
             nodes join anew."
        );
        Ok(())
    }
}
