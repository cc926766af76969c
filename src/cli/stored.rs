//! Where commands that work on a server's or node's own files find them.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use config::{DatastoreConfig, DatastoreFlags};
use host::ServiceSettings;
use remote::Client;

#[derive(Args)]
pub(crate) struct DataDirFlag {
    /// Folder that holds all state [default: as the configuration file says, else /var/lib/combo]
    #[arg(long, short = 'd', value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDirFlag {
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.data_dir {
            Some(data_dir) => Ok(std::path::absolute(data_dir)?),
            None => Ok(ServiceSettings::said(&[], &std::env::vars().collect()).data_dir),
        }
    }
}

/// What the members of an etcd cluster ask for, when `--from` or `--to` names one.
#[derive(Args)]
pub(crate) struct EtcdFiles {
    /// File with the authorities that etcd's members are signed by
    #[arg(long, value_name = "FILE")]
    datastore_cafile: Option<PathBuf>,
    /// File with the certificate that etcd's members ask of clients
    #[arg(long, value_name = "FILE")]
    datastore_certfile: Option<PathBuf>,
    /// File with the key of that certificate
    #[arg(long, value_name = "FILE")]
    datastore_keyfile: Option<PathBuf>,
}

impl EtcdFiles {
    /// `None`: what is named is a file.
    pub(crate) fn client(self, named: &str) -> anyhow::Result<Option<Client>> {
        let is_etcd = named.contains("://");
        let said = DatastoreFlags {
            datastore_endpoint: is_etcd.then(|| named.to_owned()),
            datastore_cafile: self.datastore_cafile,
            datastore_certfile: self.datastore_certfile,
            datastore_keyfile: self.datastore_keyfile,
        };
        if !is_etcd && said != DatastoreFlags::default() {
            anyhow::bail!(
                "--datastore-* go with the URLs of an etcd cluster, and {named} is a file"
            );
        }
        let config = DatastoreConfig::from_flags(said)?;
        let client = config.map(|config| supervisor::datastore_client(&config));
        client.transpose().context("the etcd cluster")
    }
}

/// For a command that waits for one thing.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}
