//! Who of several servers runs what may run once only: whoever holds a Lease. The times are upstream's.
//!
//! A term ends before the lease can be another's: its holder stops when it could not renew for [`RENEW_TIME_MAX`], and nobody takes the lease until
//! it was seen unrenewed for [`LEASE_TIME`]. Both are measured with clocks of one machine each, which may differ.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::ObjectKey;
use env::{Clock, Rng, Shutdown};
use informer::{Cache, Factory};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube_client::{Api, Client, ClientError, ListRequest, resource_of};

const NAMESPACE: &str = "kube-system";
const LEASE_TIME: Duration = Duration::from_secs(15);
const RENEW_TIME_MAX: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A holder that ends gives its lease up within this time, or leaves it to run out.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(2);

/// A candidate for a lease in `kube-system`.
#[derive(Debug)]
pub struct Election {
    pub client: Client,
    /// The lease's name.
    pub name: &'static str,
    /// Who this is; no other candidate, before or beside it, is called the same.
    pub identity: String,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
}

/// A lease as this candidate saw it last.
#[derive(Default)]
struct Seen {
    version: Option<String>,
    /// On the monotonic clock.
    since: Duration,
}

impl Election {
    /// Calls `start` whenever this becomes the holder, with what ends the term, until the end is asked for.
    pub async fn run(self, shutdown: Shutdown, start: impl Fn(Shutdown) + Send + Sync) {
        while let Some(lease) = self.acquire(&shutdown).await {
            tracing::info!(
                lease = self.name,
                identity = self.identity,
                "this server leads"
            );
            let (trigger, term) = Shutdown::new();
            start(term);
            let held = self.hold(lease, &shutdown).await;
            trigger.trigger();
            if let Some(lease) = held {
                self.release(lease).await;
            } else {
                tracing::warn!(
                    lease = self.name,
                    "this server does not lead any more: its lease could not be renewed"
                );
            }
        }
    }

    fn api(&self) -> Api<Lease> {
        self.client.api(NAMESPACE)
    }

    /// The lease once it is this candidate's; `None` when the end is asked for.
    async fn acquire(&self, shutdown: &Shutdown) -> Option<Lease> {
        let cache = self.watch();
        let changes = cache.subscribe();
        let mut seen = Seen::default();
        tokio::select! {
            biased;
            () = shutdown.requested() => return None,
            () = cache.wait_for_sync() => {}
        }
        loop {
            let mut wait = self.wait(&cache, &mut seen);
            if wait.is_zero() {
                match env::timeout(RENEW_TIME_MAX, self.take(&seen)).await {
                    Ok(Ok(Some(lease))) => return Some(lease),
                    Ok(Ok(None)) | Err(_) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(lease = self.name, %error, "the lease cannot be taken");
                    }
                }
                wait = RENEW_EVERY + Duration::from_millis(self.rng.below(1000));
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return None,
                _change = changes.next() => {}
                () = env::sleep(wait) => {}
            }
        }
    }

    fn watch(&self) -> Arc<Cache> {
        let factory = Factory::new(self.client.clone(), Arc::clone(&self.rng));
        factory.cache(ListRequest {
            resource: resource_of::<Lease>(),
            namespace: Some(NAMESPACE.to_owned()),
            label_selector: String::new(),
            field_selector: format!("metadata.name={}", self.name),
        })
    }

    /// How long the lease is somebody else's at least.
    fn wait(&self, cache: &Cache, seen: &mut Seen) -> Duration {
        let now = self.clock.monotonic();
        let found = cache.get(&ObjectKey::namespaced(NAMESPACE, self.name));
        let lease = found.and_then(|found| kube_client::typed::<Lease>(&found).ok());
        let version = lease
            .as_ref()
            .and_then(|it| it.metadata.resource_version.clone());
        if version != seen.version {
            *seen = Seen {
                version,
                since: now,
            };
        }
        let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
        if spec
            .holder_identity
            .as_deref()
            .unwrap_or_default()
            .is_empty()
        {
            return Duration::ZERO;
        }
        let seconds = spec
            .lease_duration_seconds
            .and_then(|it| u64::try_from(it).ok());
        let time = seconds.map_or(LEASE_TIME, Duration::from_secs);
        time.saturating_sub(now.saturating_sub(seen.since))
    }

    /// Takes the lease if it still is what was seen.
    async fn take(&self, seen: &Seen) -> Result<Option<Lease>, ClientError> {
        let now = MicroTime(self.clock.now().to_jiff());
        let mut spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_TIME.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        let current = self.api().get_optional(self.name).await?;
        let written = match current {
            None => {
                spec.lease_transitions = Some(0);
                let metadata = ObjectMeta {
                    name: Some(self.name.to_owned()),
                    namespace: Some(NAMESPACE.to_owned()),
                    ..ObjectMeta::default()
                };
                let lease = Lease {
                    metadata,
                    spec: Some(spec),
                };
                self.api().create(&lease).await
            }
            Some(current) if current.metadata.resource_version != seen.version => return Ok(None),
            Some(mut current) => {
                let former = current.spec.and_then(|spec| spec.lease_transitions);
                spec.lease_transitions = Some(former.unwrap_or(0).saturating_add(1));
                current.spec = Some(spec);
                self.api().update(&current).await
            }
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if error.is_conflict() || error.is_already_exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renews the lease until the end is asked for, and returns it then; `None`: it is lost.
    async fn hold(&self, mut lease: Lease, shutdown: &Shutdown) -> Option<Lease> {
        let mut renewed = self.clock.monotonic();
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return Some(lease),
                () = env::sleep(RENEW_EVERY) => {}
            }
            let left =
                RENEW_TIME_MAX.saturating_sub(self.clock.monotonic().saturating_sub(renewed));
            if left.is_zero() {
                return None;
            }
            let tried_at = self.clock.monotonic();
            match env::timeout(left, self.renew(&lease)).await {
                Ok(Ok(Some(fresh))) => {
                    lease = fresh;
                    renewed = tried_at;
                }
                Ok(Ok(None)) => return None,
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.name, %error, "the lease is not renewed");
                }
                Err(_timed_out) => return None,
            }
        }
    }

    /// `None`: the lease is somebody else's.
    async fn renew(&self, lease: &Lease) -> Result<Option<Lease>, ClientError> {
        match self.write(lease.clone()).await {
            Ok(fresh) => Ok(Some(fresh)),
            // Somebody wrote it, or an answer was lost.
            Err(error) if error.is_conflict() || error.is_not_found() => {
                let current = self.api().get_optional(self.name).await?;
                match current.filter(|lease| self.holds(lease)) {
                    Some(current) => self.write(current).await.map(Some),
                    None => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn holds(&self, lease: &Lease) -> bool {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_ref());
        holder == Some(&self.identity)
    }

    async fn write(&self, mut lease: Lease) -> Result<Lease, ClientError> {
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = Some(MicroTime(self.clock.now().to_jiff()));
        }
        self.api().update(&lease).await
    }

    /// Lets another candidate take the lease at once.
    async fn release(&self, mut lease: Lease) {
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        // Whoever is gone already lets it run out.
        let _released = env::timeout(RELEASE_TIME_MAX, self.write(lease)).await;
    }
}
