//! Which servers of a shared datastore live: each has a key there with where it is reached, on a lease that it keeps alive, and follows the keys of all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use env::Shutdown;
use kv::{Durability, KeyRange, Kv, LeaseId, Operation, RangeRequest, Txn, WatchRequest};
use rest::Advertised;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Beside upstream's own leases of the same purpose, whose values are others.
const PREFIX: &str = "/registry/combo-servers/";
/// A server that is silent for so long is not led to any more.
const LIFE: Duration = Duration::from_secs(15);
/// How often a server gives its sign of life; it costs etcd no write.
const SIGN_EVERY: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);
/// A server that ends takes its key away within this time, or leaves it to its lease.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(2);

/// What a server writes of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    address: std::net::SocketAddr,
    others: Vec<std::net::IpAddr>,
}

pub(crate) struct LivingServers {
    pub(crate) kv: Arc<dyn Kv>,
    /// Names this server; another one of the same name would be taken for it.
    pub(crate) name: String,
    pub(crate) advertised: watch::Receiver<Advertised>,
    pub(crate) shutdown: Shutdown,
}

impl LivingServers {
    /// Says that this server lives until the end is asked for.
    pub(crate) async fn say(self) {
        let mut advertised = self.advertised.clone();
        let mut lease = None;
        loop {
            let place = advertised.borrow_and_update().clone();
            let wait = match self.write(&mut lease, place).await {
                Ok(()) => SIGN_EVERY,
                Err(error) => {
                    tracing::warn!("the other servers are not told that this one lives: {error:#}");
                    lease = None;
                    RETRY
                }
            };
            tokio::select! {
                biased;
                () = self.shutdown.requested() => break,
                Ok(()) = advertised.changed() => {}
                () = env::sleep(wait) => {}
            }
        }
        if let Some((lease, _)) = lease {
            let _gone = env::timeout(GOODBYE_TIME_MAX, self.kv.lease_revoke(lease)).await;
        }
    }

    /// Keeps the lease alive, and writes the key where it is not as it should be.
    async fn write(
        &self,
        lease: &mut Option<(LeaseId, Advertised)>,
        place: Advertised,
    ) -> anyhow::Result<()> {
        let kept = match &*lease {
            Some((id, _)) => self.kv.lease_keep_alive(*id).await.map(|_| Some(*id)),
            None => Ok(None),
        };
        let kept = match kept {
            // It ran out: the machine slept, or etcd was away.
            Err(kv::Error::LeaseNotFound) => None,
            kept => kept.context("keep the lease alive")?,
        };
        if kept.is_some() && lease.as_ref().is_some_and(|(_, written)| *written == place) {
            return Ok(());
        }
        let id = match kept {
            Some(id) => id,
            None => {
                self.kv
                    .lease_grant(0, LIFE)
                    .await
                    .context("get a lease")?
                    .id
            }
        };
        let value = serde_json::to_vec(&Place {
            address: place.address,
            others: place.others.clone(),
        })?;
        let txn = Txn {
            success: vec![Operation::Put {
                key: format!("{PREFIX}{}", self.name).into(),
                value: value.into(),
                lease: id,
            }],
            ..Txn::default()
        };
        self.kv
            .txn(txn, Durability::Durable)
            .await
            .context("write where this server is")?;
        *lease = Some((id, place));
        Ok(())
    }
}

/// Where all living servers are now.
pub(crate) async fn living(kv: &dyn Kv) -> kv::Result<Vec<Advertised>> {
    let found = kv
        .range(RangeRequest::newest(KeyRange::prefix(PREFIX)))
        .await?;
    let mut places = BTreeMap::new();
    for entry in &found.entries {
        note(&mut places, &entry.key, Some(&entry.value));
    }
    Ok(all(&places))
}

/// Tells where all living servers are, and again at every change, until the end is asked for.
pub(crate) async fn follow(
    kv: Arc<dyn Kv>,
    living: watch::Sender<Vec<Advertised>>,
    shutdown: Shutdown,
) {
    loop {
        let followed = follow_once(&*kv, &living);
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            ended = followed => {
                if let Err(error) = ended {
                    tracing::warn!("which servers live is not known: {error:#}");
                }
            }
        }
        env::sleep(RETRY).await;
    }
}

async fn follow_once(kv: &dyn Kv, living: &watch::Sender<Vec<Advertised>>) -> anyhow::Result<()> {
    let range = KeyRange::prefix(PREFIX);
    let found = kv.range(RangeRequest::newest(range.clone())).await?;
    let mut stream = kv
        .watch(WatchRequest {
            range,
            start_revision: Some(found.revision + 1),
        })
        .await?;
    let mut places = BTreeMap::new();
    for entry in &found.entries {
        note(&mut places, &entry.key, Some(&entry.value));
    }
    tell(&places, living);
    while let Some(message) = stream.messages.recv().await {
        match message {
            kv::WatchMessage::Events(events) => {
                for event in &*events {
                    let value = match event {
                        kv::Event::Put { entry, .. } => Some(&entry.value),
                        kv::Event::Delete { .. } => None,
                    };
                    note(&mut places, event.key(), value);
                }
                tell(&places, living);
            }
            kv::WatchMessage::Progress(_) => {}
            kv::WatchMessage::Compacted { .. } => return Ok(()),
        }
    }
    Ok(())
}

fn note(places: &mut BTreeMap<Vec<u8>, Place>, key: &[u8], value: Option<&Arc<[u8]>>) {
    let place = value.and_then(|value| serde_json::from_slice(value).ok());
    match place {
        Some(place) => places.insert(key.to_vec(), place),
        None => places.remove(key),
    };
}

fn all(places: &BTreeMap<Vec<u8>, Place>) -> Vec<Advertised> {
    let advertised = |place: &Place| Advertised {
        address: place.address,
        others: place.others.clone(),
    };
    places.values().map(advertised).collect()
}

fn tell(places: &BTreeMap<Vec<u8>, Place>, living: &watch::Sender<Vec<Advertised>>) {
    let all = all(places);
    living.send_if_modified(|known| {
        let is_new = *known != all;
        *known = all;
        is_new
    });
}
