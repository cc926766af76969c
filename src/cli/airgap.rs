//! `combo airgap`: one file for machines without a network.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use host::{Architecture, Bundle, BundleContents, Installation, ServiceSettings};

/// What a bundle carries for the shell of the machine that it is for.
const INSTALL_SCRIPT: &str = include_str!("../../packaging/install.sh");
const MEGABYTE: u64 = 1_000_000;

#[derive(Subcommand)]
pub(crate) enum AirGapCommand {
    /// Make one file with binary, install script and images for an architecture
    Bundle(BundleCommand),
    /// List what is in a bundle; the whole of it is verified
    #[command(alias = "verify")]
    List(ListCommand),
    /// Put the images of a bundle where a node imports them
    Load(LoadCommand),
}

#[derive(Args)]
pub(crate) struct BundleCommand {
    /// amd64 or arm64 [default: that of this machine]
    #[arg(long, value_name = "ARCH")]
    arch: Option<Architecture>,
    /// An archive of images (docker save or OCI layout; plain, gzip or zstd), or a .txt list; may
    /// be repeated
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// The binary for the architecture [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args)]
pub(crate) struct ListCommand {
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
}

#[derive(Args)]
pub(crate) struct LoadCommand {
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Folder that holds all state [default: /var/lib/combo]
    #[arg(long, short = 'd', value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// An installed service, whose folder it is
    #[arg(long, value_name = "NAME", conflicts_with = "data_dir")]
    service: Option<String>,
}

impl AirGapCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Bundle(command) => command.run(),
            Self::List(command) => {
                print(&Bundle::verify(&command.bundle)?);
                Ok(())
            }
            Self::Load(command) => command.run(),
        }
    }
}

impl BundleCommand {
    fn run(self) -> anyhow::Result<()> {
        let binary = match self.binary {
            Some(binary) => binary,
            None => std::env::current_exe().context("find this binary")?,
        };
        let contents = Bundle {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: self.arch.unwrap_or_else(Architecture::own),
            binary,
            script: INSTALL_SCRIPT.to_owned(),
            images: self.image,
        }
        .write(&self.output)?;
        print(&contents);
        Ok(())
    }
}

impl LoadCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = match (self.data_dir, self.service) {
            (Some(data_dir), _) => data_dir,
            (None, None) => ServiceSettings::said(&[], &std::env::vars().collect()).data_dir,
            (None, Some(service)) => {
                let installed = Installation::find(&service)?;
                let installed = installed.with_context(|| format!("{service} is not installed"))?;
                ServiceSettings::of(&installed).data_dir
            }
        };
        let folder = Path::new(&data_dir).join("agent/images");
        for image in Bundle::load_images(&self.bundle, &folder)? {
            println!("{}", image.display());
        }
        Ok(())
    }
}

fn print(contents: &BundleContents) {
    println!("combo {} for {}", contents.version, contents.architecture);
    for member in &contents.members {
        let megabytes = member.size_bytes.div_ceil(MEGABYTE);
        println!(
            "{:<60} {megabytes:>6} MB  sha256:{}",
            member.name, member.sha256
        );
    }
}
