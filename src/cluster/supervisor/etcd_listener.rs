//! The store behind etcd's API, for those who ask for it. Whoever connects reads everything, secrets as well, so only the cluster's own key opens.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bootstrap::{Credentials, DataDir};
use etcd::{Door, Identity};
use pki::CertificateInfo;
use tokio::net::TcpListener;

use crate::client_authorities::ClientAuthorities;
use crate::control_plane::{Basics, ControlPlane};
use crate::tls;

/// Returns when the port is open.
pub(crate) async fn open(
    address: SocketAddr,
    data_dir: &DataDir,
    (control_plane, credentials): (&ControlPlane, &Credentials),
    basics: &Basics,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (--etcd-listen)"))?;
    let authorities = ClientAuthorities::new(
        &credentials.client_authority.trusted_der(),
        basics.clock.clone(),
    )?;
    let own_key = credentials.kubelet_client.key.public_key_info();
    let door = Door::Tls {
        config: tls::server_config(control_plane.serving.clone(), authorities)?,
        admits: Arc::new(move |certificate| {
            CertificateInfo::from_der(certificate).is_ok_and(|info| info.public_key_info == own_key)
        }),
    };
    let identity = Identity::derived(
        credentials.server_authority.root_pem().as_bytes(),
        &data_dir.instance(),
        vec![format!("https://{address}")],
    );
    let (kv, shutdown) = (control_plane.store.kv(), basics.shutdown.clone());
    env::spawn(etcd::serve(kv, identity, listener, door, shutdown));
    tracing::info!(%address, "etcd's API is listening");
    Ok(())
}
