//! `combo token`: what machines join with. Bootstrap tokens are kept by the API, the passwords of servers and agents in files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bootstrap::{Administrator, DataDir, random_password};
use clap::{Args, Subcommand, ValueEnum};
use env::{SystemClock, SystemRng, Timestamp};
use host::ServiceSettings;
use joining::bootstrap_token::{self, BootstrapToken};
use joining::{AuthorityHash, JoinToken, Role, Secret};
use k8s_openapi::api::core::v1::Secret as SecretObject;
use kube_client::{Client, DeleteOptions, HttpTransport, Kubeconfig, Trust};
use serde::Serialize;

use super::stored::DataDirFlag;

/// A server that does not answer is told, not waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token that nodes join with until it ends, and print it
    Create(CreateCommand),
    /// List the tokens that `combo token create` made
    #[command(alias = "ls")]
    List(ListCommand),
    /// Delete such tokens: nobody joins with them any more
    #[command(alias = "rm")]
    Delete(DeleteCommand),
    /// Print a random token for `combo token create`, without making it
    Generate,
    /// Change the password that agents, or servers, join with; nodes that have joined stay, and no server restarts
    Rotate(RotateCommand),
}

#[derive(Args)]
struct Api {
    /// The administrator's kubeconfig [default: the one that the server writes]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct CreateCommand {
    #[command(flatten)]
    api: Api,
    /// The token, as `combo token generate` prints it [default: a random one]
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
    /// How long it is good for; 0 is for ever
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = life)]
    ttl: Life,
    /// What it is for
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// Groups of whoever authenticates with it
    #[arg(
        long,
        default_value = bootstrap_token::DEFAULT_GROUP,
        value_delimiter = ',',
        value_name = "GROUP"
    )]
    groups: Vec<String>,
    /// What it can be used for: authentication, signing
    #[arg(
        long,
        default_values = bootstrap_token::USAGES,
        value_delimiter = ',',
        value_name = "USAGE"
    )]
    usages: Vec<String>,
    /// How to print it
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(crate) struct ListCommand {
    #[command(flatten)]
    api: Api,
    /// How to print them
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(crate) struct DeleteCommand {
    #[command(flatten)]
    api: Api,
    /// Tokens, or what stands before their dot
    #[arg(required = true, value_name = "TOKEN")]
    tokens: Vec<String>,
}

#[derive(Args)]
pub(crate) struct RotateCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
    /// Whose password it is
    #[arg(long, value_enum, default_value_t = Whose::Agent)]
    role: Whose,
    /// The next password [default: a random one]
    #[arg(long, value_name = "TOKEN")]
    new_token: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whose {
    Agent,
    Server,
}

/// `None`: for ever.
type Life = Option<Duration>;

fn life(text: &str) -> Result<Life, String> {
    let nanos = schema::parse_duration(text).ok();
    match nanos.and_then(|nanos| u64::try_from(nanos).ok()) {
        Some(0) => Ok(None),
        Some(nanos) => Ok(Some(Duration::from_nanos(nanos))),
        None => Err("it is no duration such as 24h, 30m, or 0 for ever".to_owned()),
    }
}

/// A token as it is listed; who reads it can join.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    description: String,
    usages: Vec<String>,
    groups: Vec<String>,
}

impl TokenCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        match self {
            Self::Create(command) => runtime.block_on(command.run()),
            Self::List(command) => runtime.block_on(command.run()),
            Self::Delete(command) => runtime.block_on(command.run()),
            Self::Generate => {
                let token = generated(None);
                println!("{}.{}", token.id, token.secret);
                Ok(())
            }
            Self::Rotate(command) => command.run(),
        }
    }
}

fn generated(life: Life) -> BootstrapToken {
    BootstrapToken::generate(SystemClock::shared().now(), life, &*SystemRng::shared())
}

/// The API as the administrator, and what its tokens pin.
struct Connection {
    client: Client,
    pin: AuthorityHash,
}

impl Api {
    fn connect(&self) -> anyhow::Result<Connection> {
        let path = match self
            .kubeconfig
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
        {
            Some(path) => path,
            None => ServiceSettings::said(&[], &std::env::vars().collect()).kubeconfig,
        };
        let config = Kubeconfig::read(&path)?.http_config("", "combo token")?;
        let Trust::Authorities(authorities) = &config.trust else {
            anyhow::bail!("{} names no authority of its server", path.display());
        };
        let pin = AuthorityHash::of_pem(&String::from_utf8_lossy(authorities));
        let transport = HttpTransport::new(&config)?.with_answer_limit(Some(ANSWER_LIMIT));
        Ok(Connection {
            client: Client::new(Arc::new(transport)),
            pin,
        })
    }
}

impl CreateCommand {
    async fn run(self) -> anyhow::Result<()> {
        let mut token = generated(self.ttl);
        if let Some(text) = &self.token {
            token = token.with_text(text)?;
        }
        token.description = self.description;
        token.groups = self.groups;
        token.usages = self.usages;
        token.check()?;
        let api = self.api.connect()?;
        api.client
            .api::<SecretObject>(bootstrap_token::NAMESPACE)
            .create(&token.to_secret())
            .await
            .context("keep the token")?;
        let full = JoinToken::full_bootstrap(api.pin, &token.id, &token.secret);
        match self.output {
            Output::Text => println!("{full}"),
            Output::Json => print_json(&Listed {
                token: full,
                ..listed(&token)
            })?,
        }
        Ok(())
    }
}

impl ListCommand {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.api.connect()?;
        let secrets = api
            .client
            .api::<SecretObject>(bootstrap_token::NAMESPACE)
            .list("", &format!("type={}", bootstrap_token::SECRET_TYPE))
            .await?;
        let tokens: Vec<BootstrapToken> = secrets
            .iter()
            .filter_map(BootstrapToken::from_secret)
            .collect();
        match self.output {
            Output::Json => print_json(&tokens.iter().map(listed).collect::<Vec<_>>()),
            Output::Text => {
                print_table(&tokens, SystemClock::shared().now());
                Ok(())
            }
        }
    }
}

impl DeleteCommand {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.api.connect()?;
        let secrets = api.client.api::<SecretObject>(bootstrap_token::NAMESPACE);
        for text in &self.tokens {
            let id = bootstrap_id(text);
            let name = bootstrap_token::secret_name(&id);
            anyhow::ensure!(
                secrets.get_optional(&name).await?.is_some(),
                "there is no token {id}; `combo token list` lists those that there are"
            );
            secrets.delete(&name, &DeleteOptions::default()).await?;
            println!("deleted {id}");
        }
        Ok(())
    }
}

/// The id in a token of any form, or the text itself.
fn bootstrap_id(text: &str) -> String {
    match text.parse::<JoinToken>().map(|token| token.secret) {
        Ok(Secret::Bootstrap { id, .. }) => id,
        _ => text.to_owned(),
    }
}

impl RotateCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        // What servers share is sealed with this password, and the other servers would not hear of it.
        data_dir.has_own_store("`combo token rotate`")?;
        let administrator = Administrator::read(&data_dir)?;
        let pin = AuthorityHash::of_pem(administrator.server_authority_pem());
        let role = match self.role {
            Whose::Agent => Role::Agent,
            Whose::Server => Role::Server,
        };
        let password = match &self.new_token {
            Some(text) => match text.parse::<JoinToken>()?.secret {
                Secret::Password { password, .. } => password,
                Secret::Bootstrap { .. } => anyhow::bail!(
                    "a password cannot have the form of a bootstrap token, which `combo token create` makes"
                ),
            },
            None => random_password(&*SystemRng::shared()),
        };
        data_dir.tokens().write(role, pin, &password)?;
        println!("{}", JoinToken::full(pin, role, &password));
        let flag = match self.role {
            Whose::Agent => "--agent-token",
            Whose::Server => "--token",
        };
        eprintln!(
            "combo: it counts from now on. If the server is started with {flag}, change that too: its next start writes what \
             that says."
        );
        Ok(())
    }
}

fn listed(token: &BootstrapToken) -> Listed {
    Listed {
        token: format!("{}.{}", token.id, token.secret),
        expires: token.expires.map(Timestamp::to_seconds_string),
        description: token.description.clone(),
        usages: token.usages.clone(),
        groups: token.groups.clone(),
    }
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn print_table(tokens: &[BootstrapToken], now: Timestamp) {
    println!(
        "{:<24} {:<10} {:<21} {:<24} {:<24} GROUPS",
        "TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION"
    );
    for token in tokens {
        let (left, expires) = match token.expires {
            None => ("forever".to_owned(), "never".to_owned()),
            Some(expires) if expires <= now => ("expired".to_owned(), expires.to_seconds_string()),
            Some(expires) => (
                short(expires.saturating_since(now)),
                expires.to_seconds_string(),
            ),
        };
        let text = format!("{}.{}", token.id, token.secret);
        let description = match token.description.as_str() {
            "" => "<none>",
            description => description,
        };
        println!(
            "{text:<24} {left:<10} {expires:<21} {:<24} {description:<24} {}",
            token.usages.join(","),
            token.groups.join(",")
        );
    }
}

/// The two largest units, as people say it.
fn short(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}
