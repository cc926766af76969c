//! `combo host`: the steps of `install.sh` that must be durable and remembered. Not meant for
//! people.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use host::{BootFile, BootWords, Init, Installation, Outcome, Role};

/// The binary is by far the largest; with what debuggers want to know it has a few hundred megabytes.
const CONTENT_BYTES_MAX: u64 = 1 << 30;

#[derive(Subcommand)]
pub(crate) enum HostCommand {
    /// Begin to install a service, or go on with one
    Begin(BeginCommand),
    /// Write a file whole or not at all; says `changed` or `same`
    Put(PutCommand),
    /// Make a symbolic link; says `changed` or `same`
    Link(LinkCommand),
    /// Write the file that the init system starts the service by; says `changed` or `same`
    ServiceFile(ServiceFileCommand),
    /// Remember a file that another program is about to make
    Record(RecordCommand),
    /// Have the kernel count memory from the next boot on; says which file was changed
    BootWords(BootWordsCommand),
}

#[derive(Args)]
pub(crate) struct BeginCommand {
    #[arg(long)]
    service: String,
    #[arg(long, value_enum)]
    init: InitName,
    #[arg(long, value_enum)]
    role: RoleName,
    #[arg(long, value_name = "FILE")]
    environment: PathBuf,
    /// None: those of the installation before, or the role alone
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Args)]
pub(crate) struct PutCommand {
    #[arg(long)]
    service: String,
    /// Octal
    #[arg(long, value_parser = octal)]
    mode: u32,
    /// `-` is standard input
    from: PathBuf,
    to: PathBuf,
}

#[derive(Args)]
pub(crate) struct LinkCommand {
    #[arg(long)]
    service: String,
    target: PathBuf,
    link: PathBuf,
}

#[derive(Args)]
pub(crate) struct ServiceFileCommand {
    #[arg(long)]
    service: String,
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// systemd's `Type=`
    #[arg(long, default_value = "notify")]
    kind: String,
    to: PathBuf,
}

#[derive(Args)]
pub(crate) struct RecordCommand {
    #[arg(long)]
    service: String,
    path: PathBuf,
}

#[derive(Args)]
pub(crate) struct BootWordsCommand {
    #[arg(long)]
    service: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum InitName {
    Systemd,
    Openrc,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleName {
    Server,
    Agent,
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} is no octal mode such as 644"))
}

impl HostCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Begin(command) => command.run(),
            Self::Put(command) => command.run(),
            Self::Link(command) => command.run(),
            Self::ServiceFile(command) => command.run(),
            Self::Record(command) => Ok(begun(&command.service)?.record(&command.path)?),
            Self::BootWords(command) => command.run(),
        }
    }
}

fn begun(service: &str) -> anyhow::Result<Installation> {
    Installation::find(service)?
        .with_context(|| format!("the installation of {service} was not begun"))
}

fn tell(outcome: Outcome) {
    println!(
        "{}",
        match outcome {
            Outcome::Changed => "changed",
            Outcome::Same => "same",
        }
    );
}

impl BeginCommand {
    fn run(self) -> anyhow::Result<()> {
        let init = match self.init {
            InitName::Systemd => Init::Systemd,
            InitName::Openrc => Init::Openrc,
        };
        let role = match self.role {
            RoleName::Server => Role::Server,
            RoleName::Agent => Role::Agent,
        };
        let arguments = match self.arguments {
            given if !given.is_empty() => given,
            _ => match Installation::find(&self.service)? {
                Some(before) if before.role == role => before.arguments,
                _ => vec![role.to_string()],
            },
        };
        Installation::begin(&self.service, init, role, arguments, self.environment)?;
        Ok(())
    }
}

impl PutCommand {
    fn run(self) -> anyhow::Result<()> {
        let mut content = Vec::new();
        let read = if self.from == Path::new("-") {
            std::io::stdin()
                .take(CONTENT_BYTES_MAX + 1)
                .read_to_end(&mut content)
        } else {
            let file = std::fs::File::open(&self.from)
                .with_context(|| format!("open {}", self.from.display()))?;
            file.take(CONTENT_BYTES_MAX + 1).read_to_end(&mut content)
        };
        let size_bytes = read.with_context(|| format!("read {}", self.from.display()))? as u64;
        anyhow::ensure!(
            size_bytes <= CONTENT_BYTES_MAX,
            "{} has more than {CONTENT_BYTES_MAX} bytes",
            self.from.display()
        );
        tell(begun(&self.service)?.put(&content, &self.to, self.mode)?);
        Ok(())
    }
}

impl LinkCommand {
    fn run(self) -> anyhow::Result<()> {
        tell(begun(&self.service)?.link(&self.target, &self.link)?);
        Ok(())
    }
}

impl ServiceFileCommand {
    fn run(self) -> anyhow::Result<()> {
        let mut installation = begun(&self.service)?;
        let text = installation.service_file(&self.binary, &self.kind);
        let mode = match installation.init {
            Init::Systemd => 0o644,
            Init::Openrc => 0o755,
        };
        tell(installation.put(text.as_bytes(), &self.to, mode)?);
        Ok(())
    }
}

impl BootWordsCommand {
    fn run(self) -> anyhow::Result<()> {
        let mut installation = begun(&self.service)?;
        let counts_memory = linux::cgroup::Cgroups::detect()
            .and_then(|groups| groups.controllers())
            .is_ok_and(|controllers| controllers.iter().any(|name| name == "memory"));
        if counts_memory {
            return Ok(());
        }
        let missing: Option<BootWords> = match BootFile::find() {
            Some(file) => file.missing()?,
            None => None,
        };
        if let Some(words) = missing {
            let file = words.file.display().to_string();
            installation.add_boot_words(words)?;
            println!("{file}");
        }
        Ok(())
    }
}
