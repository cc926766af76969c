//! `combo kubeconfig`: the administrator's kubeconfig for an address, from the data folder.

use std::path::PathBuf;

use bootstrap::{Administrator, DataDir};
use clap::Args;
use host::ServiceSettings;
use linux::AtomicFile;

use super::stored::DataDirFlag;

/// Who has the file is the administrator.
const MODE: u32 = 0o600;

#[derive(Args)]
pub(crate) struct KubeconfigCommand {
    /// The server's address as its clients reach it [default: https://127.0.0.1 and the server's port]
    #[arg(long, short = 's', value_name = "URL")]
    server: Option<String>,
    /// Write it to a file that only its owner may read, instead of printing it
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    data_dir: DataDirFlag,
}

impl KubeconfigCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let settings = ServiceSettings::said(&[], &std::env::vars().collect());
        let administrator = Administrator::read(&DataDir::at(&self.data_dir.folder()?))?;
        let server = match &self.server {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("https://127.0.0.1:{}", settings.https_port),
        };
        let address = config::ServerAddress::parse(&server)?;
        if !administrator.is_named(&address.host) {
            eprintln!(
                "combo: the server's certificate does not name {host}, so clients will refuse it: start the server with \
                 --tls-san {host}",
                host = address.host
            );
        }
        let text = administrator.kubeconfig(&server);
        match &self.output {
            Some(path) => AtomicFile::with_mode(path, MODE).write(text.as_bytes())?,
            None => print!("{text}"),
        }
        Ok(())
    }
}
