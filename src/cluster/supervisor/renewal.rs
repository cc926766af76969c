//! A server's own certificates are renewed while it runs, before they end and when its addresses are others: listeners and clients take the fresh ones, and nothing restarts.

use std::sync::Arc;
use std::time::Duration;

use bootstrap::{Credentials, DataDir};
use config::ServerConfig;
use env::Timestamp;
use kube_client::ClientCertificate;
use pki::CertificateInfo;

use crate::control_plane::Basics;
use crate::names::serving_names;
use crate::served_certificate::ServedCertificate;
use crate::server::{said, write_kubeconfig};
use crate::server_addresses::ServerAddresses;

/// Certificates are renewed when a third of their life is left.
const RENEW_AT_LEFT: u32 = 3;
/// A renewal that failed is tried again after this.
const PAUSE: Duration = Duration::from_secs(20);
/// Clocks can be set while one sleeps: dates are looked at again by then.
const SLEEP_MAX: Duration = Duration::from_hours(12);

pub(crate) struct Renewal {
    pub(crate) config: ServerConfig,
    pub(crate) data_dir: DataDir,
    pub(crate) host_name: String,
    pub(crate) addresses: ServerAddresses,
    pub(crate) basics: Basics,
    pub(crate) api_server: Arc<ServedCertificate>,
    pub(crate) kubelet_client: Arc<ClientCertificate>,
    pub(crate) kubelet_server: Option<Arc<ServedCertificate>>,
}

impl Renewal {
    pub(crate) async fn run(mut self, mut credentials: Credentials) {
        let mut dates = self.basics.time.changes();
        loop {
            let wait = self.wait(&credentials);
            tokio::select! {
                biased;
                () = self.basics.shutdown.requested() => return,
                () = env::sleep(wait.min(SLEEP_MAX)) => {
                    if !self.wait(&credentials).is_zero() {
                        continue;
                    }
                }
                () = self.addresses.changed() => {}
                // What ended or lives too long by the clock as it is now is made anew, and the rest is kept.
                Ok(()) = dates.changed() => {}
            }
            match self.renew() {
                Ok(renewed) => credentials = renewed,
                Err(error) => {
                    tracing::error!("the server's certificates are not renewed: {error:#}");
                    env::sleep(PAUSE).await;
                }
            }
        }
    }

    fn wait(&self, credentials: &Credentials) -> Duration {
        let left = self.config.certificate_life / RENEW_AT_LEFT;
        let end = first_end(credentials);
        end.saturating_sub(left)
            .saturating_since(self.basics.clock.now())
    }

    fn renew(&self) -> anyhow::Result<Credentials> {
        let means = (&*self.basics.clock, &*self.basics.rng);
        let names = serving_names(&self.config, &self.addresses, &self.host_name);
        let renewed =
            Credentials::load_or_make(&self.data_dir, &names, &said(&self.config), means)?;
        let identity = &renewed.api_server;
        self.api_server
            .replace(&identity.certificate_pem, &identity.key)?;
        let identity = &renewed.kubelet_client;
        let key = identity.key.to_pem();
        self.kubelet_client
            .replace(identity.certificate_pem.as_bytes(), key.as_bytes())?;
        if let (Some(served), Some(identity)) = (&self.kubelet_server, &renewed.kubelet_server) {
            served.replace(&identity.certificate_pem, &identity.key)?;
        }
        write_kubeconfig(&self.config, &renewed)?;
        self.basics.time.record();
        Ok(renewed)
    }
}

/// When the first of the server's certificates ends.
fn first_end(credentials: &Credentials) -> Timestamp {
    let identities = [
        Some(&credentials.api_server),
        Some(&credentials.kubelet_client),
        Some(&credentials.administrator),
        credentials.kubelet_server.as_ref(),
    ];
    let ends = identities.into_iter().flatten().filter_map(|identity| {
        let chain = identity.chain();
        let info = CertificateInfo::from_der(chain.first()?).ok()?;
        Some(info.not_after)
    });
    ends.min().unwrap_or(Timestamp::from_unix_seconds(0))
}
