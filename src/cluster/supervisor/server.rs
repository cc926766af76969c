//! A whole server: prepared, started in order, stopped in reverse.

use std::net::IpAddr;

use anyhow::Context as _;
use bootstrap::{Credentials, DataDir, Said, SaidTokens, kubeconfig};
use config::ServerConfig;
use env::{Shutdown, SystemClock, SystemRng};
use linux::AtomicFile;

use crate::components::{start_control, start_custom_resources};
use crate::control_plane::{Basics, ControlPlane, Provisions, open_store, token_issuers};
use crate::names::serving_names;
use crate::node::{Node, network_settings};
use crate::node_network::NodeNetwork;

/// Why a server did not start, with all its causes.
pub type StartError = anyhow::Error;

/// A running server.
pub struct Server {
    control_plane: ControlPlane,
}

impl Server {
    /// Starts everything that `config` asks for. What was started ends when `shutdown` says so; then call [`Server::stopped`].
    pub async fn start(
        config: &ServerConfig,
        host_name: &str,
        shutdown: Shutdown,
    ) -> Result<Self, StartError> {
        let basics = Basics {
            clock: SystemClock::shared(),
            rng: SystemRng::shared(),
            shutdown,
        };
        let data_dir = DataDir::prepare(&config.data_dir)?;
        tracing::info!(data_dir = %config.data_dir.display(), instance = data_dir.instance(), "the data folder is ready");
        let network = match &config.node {
            Some(node) => {
                let settings = network_settings(config, node, &data_dir);
                Some(NodeNetwork::open(settings, &*basics.rng)?)
            }
            None => None,
        };
        let node_address = network.as_ref().map(NodeNetwork::address);
        let advertised = config
            .advertise_address
            .or(node_address)
            .unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let names = serving_names(config, advertised, node_address, host_name);
        let said = Said {
            tokens: SaidTokens {
                server: config.token.as_deref(),
                agent: config.agent_token.as_deref(),
            },
            certificate_life: config.certificate_life,
        };
        let credentials =
            Credentials::load_or_make(&data_dir, &names, &said, (&*basics.clock, &*basics.rng))?;
        write_kubeconfig(config, &credentials)?;
        let store = open_store(&data_dir, &basics)?;
        let provisions = Provisions {
            store,
            credentials: &credentials,
            tokens: token_issuers(config, &data_dir)?,
            advertised,
        };
        let control_plane = ControlPlane::start(config, provisions, &basics).await?;
        tracing::info!(
            port = config.https_listen_port,
            "the API server is listening"
        );
        control_plane
            .api
            .bootstrap()
            .await
            .context("make what every cluster has")?;
        start_custom_resources(&control_plane.api, &basics);
        start_control(&control_plane.api, config, &credentials, &basics);
        if let (Some(node), Some(network)) = (&config.node, network) {
            let wired = Node {
                server: config,
                node,
                data_dir: &data_dir,
                credentials: &credentials,
                api: &control_plane.api,
                basics: &basics,
            };
            wired.start(network).await?;
            tracing::info!(node = node.name, "the node is running");
        }
        Ok(Self { control_plane })
    }

    /// Waits for what must end well: the store.
    pub async fn stopped(self) {
        if let Err(error) = self.control_plane.store.close().await {
            tracing::error!(%error, "the store did not close well");
        }
    }
}

fn write_kubeconfig(config: &ServerConfig, credentials: &Credentials) -> anyhow::Result<()> {
    let server = format!("https://127.0.0.1:{}", config.https_listen_port);
    let text = kubeconfig(
        &server,
        &credentials.server_authority.certificate_pem(),
        &credentials.administrator,
    );
    if let Some(folder) = config.kubeconfig.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("make the folder {}", folder.display()))?;
    }
    AtomicFile::with_mode(&config.kubeconfig, config.kubeconfig_mode)
        .write(text.as_bytes())
        .with_context(|| format!("write the kubeconfig {}", config.kubeconfig.display()))?;
    tracing::info!(kubeconfig = %config.kubeconfig.display(), "the administrator's kubeconfig is written");
    Ok(())
}
