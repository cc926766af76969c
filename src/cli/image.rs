//! `combo image`: works on the node's store, whether a server runs or not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use images::{ImageStore, PullSettings, Reference, Registries};

const DEFAULT_DATA_DIR: &str = "/var/lib/combo";
const MEGABYTE: u64 = 1_000_000;

#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// Import archives made by docker save, or OCI layouts; plain, gzip or zstd
    Import(ImportCommand),
    /// List images
    #[command(alias = "ls")]
    List(ListCommand),
    /// Pull an image from its registry
    Pull(PullCommand),
    /// Remove images
    Rm(RemoveCommand),
}

#[derive(Args)]
struct Store {
    /// Folder that holds all state
    #[arg(long, short = 'd', env = "COMBO_DATA_DIR", default_value = DEFAULT_DATA_DIR, value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct ImportCommand {
    #[command(flatten)]
    store: Store,
    /// The archives
    #[arg(required = true, value_name = "FILE")]
    archives: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ListCommand {
    #[command(flatten)]
    store: Store,
}

#[derive(Args)]
pub(crate) struct PullCommand {
    #[command(flatten)]
    store: Store,
    /// Mirrors and credentials of registries
    #[arg(
        long,
        default_value = "/etc/combo/registries.yaml",
        value_name = "FILE"
    )]
    registries: PathBuf,
    #[arg(value_name = "IMAGE")]
    image: String,
}

#[derive(Args)]
pub(crate) struct RemoveCommand {
    #[command(flatten)]
    store: Store,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Store {
    fn open(&self) -> anyhow::Result<ImageStore> {
        let agent = self.data_dir.join("agent");
        std::fs::create_dir_all(&agent)?;
        Ok(ImageStore::open(&agent)?)
    }
}

impl ImageCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Import(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Pull(command) => command.run(),
            Self::Rm(command) => command.run(),
        }
    }
}

impl ImportCommand {
    fn run(self) -> anyhow::Result<()> {
        let store = self.store.open()?;
        for archive in &self.archives {
            for image in store.import(archive)? {
                let names = if image.tags.is_empty() {
                    image.id.0
                } else {
                    image.tags.join(", ")
                };
                println!("imported {names}");
            }
        }
        Ok(())
    }
}

impl ListCommand {
    fn run(self) -> anyhow::Result<()> {
        println!("{:<60} {:<20} {:>9}", "IMAGE", "ID", "SIZE");
        for image in self.store.open()?.list()? {
            let id: String = image
                .id
                .0
                .trim_start_matches("sha256:")
                .chars()
                .take(12)
                .collect();
            let size = format!("{} MB", image.size_bytes.div_ceil(MEGABYTE));
            for name in &image.repo_tags {
                println!("{name:<60} {id:<20} {size:>9}");
            }
        }
        Ok(())
    }
}

impl PullCommand {
    fn run(self) -> anyhow::Result<()> {
        let store = Arc::new(self.store.open()?);
        let settings = PullSettings {
            registries: registries(&self.registries)?,
            ..PullSettings::default()
        };
        let image = Reference::parse(&self.image)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let id = runtime.block_on(images::pull(&store, &settings, &image, None))?;
        println!("pulled {} as {}", self.image, id.0);
        Ok(())
    }
}

impl RemoveCommand {
    fn run(self) -> anyhow::Result<()> {
        let store = self.store.open()?;
        for image in &self.images {
            store.remove(image)?;
            println!("removed {image}");
        }
        Ok(())
    }
}

/// The file's settings; none if there is no file.
fn registries(path: &Path) -> anyhow::Result<Registries> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Registries::parse(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Registries::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
