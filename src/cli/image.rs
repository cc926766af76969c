//! `combo image`: works on the node's store, whether a server runs or not.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use images::{DefaultEndpoint, ImageStore, Pin, PullSettings, Reference, Registries};
use serde_json::json;

use super::stored::DataDirFlag;

const MEGABYTE: u64 = 1_000_000;
const ID_LETTERS: usize = 12;

#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// Import archives made by docker save, or OCI layouts; plain, gzip or zstd. They are pinned
    Import(ImportCommand),
    /// Write images to an archive, which this and other runtimes import
    Export(ExportCommand),
    /// List images
    #[command(alias = "ls")]
    List(ListCommand),
    /// Pull an image from its registry
    Pull(PullCommand),
    /// Keep images when the disk fills
    Pin(NamesCommand),
    /// Let images go when the disk fills and nothing uses them
    Unpin(NamesCommand),
    /// Read every byte of images and look whether it is what it was; all images, if none is named
    Verify(VerifyCommand),
    /// Remove images
    #[command(alias = "remove")]
    Rm(NamesCommand),
}

#[derive(Args)]
struct Store {
    #[command(flatten)]
    data_dir: DataDirFlag,
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
pub(crate) struct ExportCommand {
    #[command(flatten)]
    store: Store,
    /// The archive; - is standard output. Layers stay compressed as they came
    #[arg(long, short = 'o', value_name = "FILE")]
    output: PathBuf,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Args)]
pub(crate) struct ListCommand {
    #[command(flatten)]
    store: Store,
    /// How to print them
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
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
    /// Ask a registry's mirrors only, where it has some
    #[arg(long)]
    disable_default_registry_endpoint: bool,
    #[arg(value_name = "IMAGE")]
    image: String,
}

#[derive(Args)]
pub(crate) struct NamesCommand {
    #[command(flatten)]
    store: Store,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Args)]
pub(crate) struct VerifyCommand {
    #[command(flatten)]
    store: Store,
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

impl Store {
    fn open(&self) -> anyhow::Result<ImageStore> {
        let agent = self.data_dir.folder()?.join("agent");
        std::fs::create_dir_all(&agent)?;
        Ok(ImageStore::open(&agent)?)
    }
}

impl ImageCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Import(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Pull(command) => command.run(),
            Self::Pin(command) => {
                command.each("pinned", |store, image| store.set_pin(image, Pin::Pinned))
            }
            Self::Unpin(command) => command.each("unpinned", |store, image| {
                store.set_pin(image, Pin::Unpinned)
            }),
            Self::Verify(command) => command.run(),
            Self::Rm(command) => command.each("removed", ImageStore::remove),
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

impl ExportCommand {
    fn run(self) -> anyhow::Result<()> {
        let store = self.store.open()?;
        if self.output == Path::new("-") {
            let mut output = std::io::BufWriter::new(std::io::stdout().lock());
            store.export(&self.images, &mut output)?;
            return Ok(output.flush()?);
        }
        let doing = || format!("write {}", self.output.display());
        let mut name = self.output.clone().into_os_string();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let file = std::fs::File::create(&partial).with_context(doing)?;
        let mut output = std::io::BufWriter::new(file);
        let exported = store.export(&self.images, &mut output);
        // Half an archive must not look like one.
        if let Err(error) = exported {
            drop(std::fs::remove_file(&partial));
            return Err(error.into());
        }
        let file = output.into_inner().with_context(doing)?;
        file.sync_all().with_context(doing)?;
        std::fs::rename(&partial, &self.output).with_context(doing)?;
        println!(
            "exported {} to {}",
            self.images.join(", "),
            self.output.display()
        );
        Ok(())
    }
}

impl ListCommand {
    fn run(self) -> anyhow::Result<()> {
        let images = self.store.open()?.list()?;
        if self.output == Output::Json {
            let told: Vec<_> = images
                .iter()
                .map(|image| {
                    json!({"id": image.id.0, "tags": image.repo_tags, "digests": image.repo_digests,
                        "sizeBytes": image.size_bytes, "pinned": image.pinned})
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&told)?);
            return Ok(());
        }
        println!("{:<60} {:<20} {:>9} PINNED", "IMAGE", "ID", "SIZE");
        for image in images {
            let id = image.id.0.trim_start_matches("sha256:");
            let id: String = id.chars().take(ID_LETTERS).collect();
            let size = format!("{} MB", image.size_bytes.div_ceil(MEGABYTE));
            let pinned = if image.pinned { "yes" } else { "no" };
            let names = match &image.repo_tags[..] {
                [] => vec!["<none>".to_owned()],
                tags => tags.to_vec(),
            };
            for name in names {
                println!("{name:<60} {id:<20} {size:>9} {pinned}");
            }
        }
        Ok(())
    }
}

impl PullCommand {
    fn run(self) -> anyhow::Result<()> {
        let store = Arc::new(self.store.open()?);
        let settings = PullSettings {
            registries: Registries::load(&self.registries)?,
            default_endpoint: if self.disable_default_registry_endpoint {
                DefaultEndpoint::Disabled
            } else {
                DefaultEndpoint::Used
            },
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

impl NamesCommand {
    fn each(
        self,
        done: &str,
        act: impl Fn(&ImageStore, &str) -> images::Result<()>,
    ) -> anyhow::Result<()> {
        let store = self.store.open()?;
        for image in &self.images {
            act(&store, image)?;
            println!("{done} {image}");
        }
        Ok(())
    }
}

impl VerifyCommand {
    fn run(self) -> anyhow::Result<()> {
        let store = self.store.open()?;
        let images = match self.images {
            named if !named.is_empty() => named,
            _ => store.list()?.into_iter().map(|image| image.id.0).collect(),
        };
        let mut damaged = 0;
        for image in &images {
            let wrong = store.verify(image)?;
            if wrong.is_empty() {
                println!("{image}: good");
            } else {
                damaged += 1;
                println!("{image}: damaged: {}", wrong.join("; "));
            }
        }
        anyhow::ensure!(
            damaged == 0,
            "{damaged} of {} images are damaged: remove them with `combo image rm` and import or pull them again",
            images.len()
        );
        Ok(())
    }
}
