//! The store and the API server.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use auth::{
    Authenticator, AuthenticatorChain, Authorizer, AuthorizerChain, ClientCertificates,
    MastersAuthorizer, NodeAuthorizer, Objects, RbacAuthorizer, ServiceAccountTokens, TokenIssuers,
};
use bootstrap::{Credentials, DataDir, Identity, ServiceAccountKeys};
use config::ServerConfig;
use env::{Clock, Rng, Shutdown, SystemRng};
use kube_client::ClientCertificate;
use kv::Kv;
use rest::{Advertised, ApiServer, StoreObjects};
use sqlite::{BALLAST_BYTES, Options, SealedPrefix, SealingKeys, SqliteKv};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::client_authorities::ClientAuthorities;
use crate::dialer::NodeDialer;
use crate::join_paths::JoinPaths;
use crate::machine_time::MachineTime;
use crate::served_certificate::ServedCertificate;
use crate::store::Store;
use crate::tls;
use crate::upkeep::OpenedStore;

/// The largest body the API server reads is 3 MiB; stored forms can be a little larger than what was sent.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is encrypted on disk.
const SEALED_PREFIX: &str = "/registry/secrets/";

/// A store and an API server over it.
pub(crate) struct ControlPlane {
    pub(crate) store: Store,
    pub(crate) api: ApiServer,
    pub(crate) join_paths: Arc<JoinPaths>,
    pub(crate) dialer: Arc<NodeDialer>,
    /// What the listener shows.
    pub(crate) serving: Arc<ServedCertificate>,
    /// What the API server shows to kubelets.
    pub(crate) kubelet_client: Arc<ClientCertificate>,
}

/// What the parts of a process share.
#[derive(Clone)]
pub(crate) struct Basics {
    /// That of `time`.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: MachineTime,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) shutdown: Shutdown,
}

impl Basics {
    /// For a process with this data folder.
    pub(crate) fn open(data_dir: &DataDir, shutdown: Shutdown) -> Self {
        let time = MachineTime::open(data_dir.root());
        Self {
            clock: time.clock(),
            time,
            rng: SystemRng::shared(),
            shutdown,
        }
    }
}

/// What must be there before an API server starts.
pub(crate) struct Provisions<'a> {
    pub(crate) store: Store,
    pub(crate) credentials: &'a Credentials,
    pub(crate) tokens: TokenIssuers,
    pub(crate) advertised: watch::Receiver<Advertised>,
    /// All servers of a shared store.
    pub(crate) living: Option<watch::Receiver<Vec<Advertised>>>,
}

/// Who issues service account tokens here, with the keys that the data folder or the operator gives.
pub(crate) fn token_issuers(
    config: &ServerConfig,
    data_dir: &DataDir,
) -> anyhow::Result<TokenIssuers> {
    let said = &config.service_accounts;
    let signing_file = said.signing_key_file.as_deref();
    let keys = ServiceAccountKeys::load_or_make(data_dir, signing_file, &said.key_files)?;
    Ok(TokenIssuers {
        issuer: said.issuer.clone(),
        former_issuers: said.former_issuers.clone(),
        signing: keys.signing,
        accepted: keys.accepted,
    })
}

/// What is encrypted in a server's store.
pub fn sealed_prefixes(keys: Arc<SealingKeys>) -> Vec<SealedPrefix> {
    vec![SealedPrefix {
        prefix: SEALED_PREFIX.into(),
        sealer: keys,
    }]
}

/// The store in the data folder, which may be as large as `bytes_max`.
pub(crate) fn open_store(
    data_dir: &DataDir,
    bytes_max: Option<u64>,
    (clock, rng): (&Arc<dyn Clock>, &Arc<dyn Rng>),
) -> anyhow::Result<OpenedStore> {
    let key_file = data_dir.encryption_key();
    let keys = SealingKeys::load_or_create(&key_file, rng.clone())?;
    let options = Options {
        clock: clock.clone(),
        rng: rng.clone(),
        limits: kv::Limits {
            request_bytes_max: REQUEST_BYTES_MAX,
            ..kv::Limits::default()
        },
        sealers: sealed_prefixes(keys.clone()),
        quota_bytes: bytes_max,
        ballast_bytes: BALLAST_BYTES,
        ..Options::default()
    };
    let store = SqliteKv::open(&data_dir.database(), options).context("open the store")?;
    Ok(OpenedStore::new(store, keys))
}

impl ControlPlane {
    /// Starts serving; returns when the port is open.
    pub(crate) async fn start(
        config: &ServerConfig,
        provisions: Provisions<'_>,
        basics: &Basics,
    ) -> anyhow::Result<Self> {
        let Provisions {
            store,
            credentials,
            tokens,
            advertised,
            living,
        } = provisions;
        let kv: Arc<dyn Kv> = store.kv();
        let objects: Arc<dyn Objects> = StoreObjects::new(kv.clone(), basics.clock.clone());
        let rbac = Arc::new(RbacAuthorizer::default());
        rest::feed_policy(kv.clone(), rbac.clone(), &basics.shutdown)
            .await
            .context("read the roles")?;
        let authorizer: Arc<dyn Authorizer> = Arc::new(AuthorizerChain(vec![
            Arc::new(MastersAuthorizer),
            Arc::new(NodeAuthorizer::new(objects.clone())),
            rbac.clone(),
        ]));
        let tokens = Arc::new(ServiceAccountTokens::new(
            tokens,
            objects.clone(),
            (basics.clock.clone(), basics.rng.clone()),
        ));
        let authenticator = authenticator(credentials, &tokens, basics)?;
        let admission = admission::plugins(&admission::Context {
            objects: objects.clone(),
            rbac: rbac.clone(),
            authorizer: authorizer.clone(),
        });
        let authorities = credentials.server_authority.trusted_pem();
        let join_paths = JoinPaths::new(authorities, basics.clock.clone(), basics.shutdown.clone());
        let kubelet_client = client_certificate(&credentials.kubelet_client)?;
        let dialer = dialer(&kubelet_client, credentials, &join_paths, basics)?;
        let api = ApiServer::new(rest::Config {
            kv,
            authenticator,
            anonymous_access: anonymous_access(config),
            authorizer,
            rbac: Some(rbac),
            tokens: Some(tokens),
            kubelets: Some(dialer.clone()),
            side_paths: Some(join_paths.clone()),
            admission,
            service_ranges: config.network.service_cidrs.clone(),
            authorities: Some(rest::Authorities {
                client_pem: credentials.client_authority.trusted_pem(),
                request_header_pem: credentials.request_header_authority.trusted_pem(),
            }),
            clock: basics.clock.clone(),
            rng: basics.rng.clone(),
            advertised,
            living,
        });
        let serving = serve(config, credentials, &api, basics).await?;
        Ok(Self {
            store,
            api,
            join_paths,
            dialer,
            serving,
            kubelet_client,
        })
    }
}

/// Opens the port; what this returns is what the listener shows.
async fn serve(
    config: &ServerConfig,
    credentials: &Credentials,
    api: &ApiServer,
    basics: &Basics,
) -> anyhow::Result<Arc<ServedCertificate>> {
    let address = SocketAddr::new(config.bind_address, config.https_listen_port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))?;
    let identity = &credentials.api_server;
    let serving = ServedCertificate::new(&identity.certificate_pem, &identity.key)?;
    let authorities = ClientAuthorities::new(
        &credentials.client_authority.trusted_der(),
        basics.clock.clone(),
    )?;
    let tls = tls::server_config(serving.clone(), authorities)?;
    let (server, shutdown) = (api.clone(), basics.shutdown.clone());
    env::spawn(async move { server.serve(listener, tls, shutdown).await });
    Ok(serving)
}

/// How kubelets, pods and Services are reached.
fn dialer(
    identity: &Arc<ClientCertificate>,
    credentials: &Credentials,
    join_paths: &JoinPaths,
    basics: &Basics,
) -> anyhow::Result<Arc<NodeDialer>> {
    let authorities = credentials.server_authority.trusted_der();
    let (identity, tunnels) = (identity.clone(), join_paths.tunnels.clone());
    let dialer = NodeDialer::new(identity, &authorities, tunnels, basics.clock.clone())?;
    Ok(Arc::new(dialer))
}

/// A client's identity that can be replaced.
pub(crate) fn client_certificate(identity: &Identity) -> anyhow::Result<Arc<ClientCertificate>> {
    let (chain, key) = (&identity.certificate_pem, identity.key.to_pem());
    Ok(ClientCertificate::from_pem(
        chain.as_bytes(),
        key.as_bytes(),
    )?)
}

fn anonymous_access(config: &ServerConfig) -> rest::AnonymousAccess {
    if config.serves_anonymous {
        rest::AnonymousAccess::Allowed
    } else {
        rest::AnonymousAccess::Refused
    }
}

fn authenticator(
    credentials: &Credentials,
    tokens: &Arc<ServiceAccountTokens>,
    basics: &Basics,
) -> anyhow::Result<Arc<dyn Authenticator>> {
    let authorities = credentials.client_authority.trusted_der();
    let certificates =
        ClientCertificates::new(&authorities, basics.clock.clone()).map_err(anyhow::Error::msg)?;
    Ok(Arc::new(AuthenticatorChain(vec![
        Arc::new(certificates),
        tokens.clone(),
    ])))
}
