//! From the API's objects to the records, for as long as the server lives.

use crate::records::Records;
use apimachinery::StoredObject;
use env::Shutdown;
use informer::{Change, Factory, Subscription};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::Kind;
use parking_lot::RwLock;

/// Keeps the records as the API has them until the end is asked for.
///
/// Until all objects have been read once, questions about the cluster fail instead of being answered with "no such name".
pub async fn follow(records: &RwLock<Records>, factory: &Factory, shutdown: Shutdown) {
    let namespaces = factory.all::<Namespace>().subscribe();
    let services = factory.all::<Service>().subscribe();
    let slices = factory.all::<EndpointSlice>().subscribe();
    let synced = async {
        for source in [&namespaces, &services, &slices] {
            source.cache().wait_for_sync().await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.requested() => return,
        () = synced => {}
    }
    drain(&namespaces, |change| take_namespace(records, change));
    drain(&services, |change| take_service(records, change));
    drain(&slices, |change| take_slice(records, change));
    records.write().complete();
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            change = namespaces.next() => take_namespace(records, &change),
            change = services.next() => take_service(records, &change),
            change = slices.next() => take_slice(records, &change),
        }
    }
}

fn drain(source: &Subscription, take: impl Fn(&Change)) {
    while let Some(change) = source.try_next() {
        take(&change);
    }
}

fn take_namespace(records: &RwLock<Records>, change: &Change) {
    let name = &change.key().name;
    match change.new {
        Some(_) => records.write().put_namespace(name),
        None => records.write().remove_namespace(name),
    }
}

fn take_service(records: &RwLock<Records>, change: &Change) {
    let key = change.key();
    // Decoded before the lock is taken.
    match change.new.as_ref().and_then(decode::<Service>) {
        Some(service) => records.write().put_service(&service),
        None => records.write().remove_service(&key.namespace, &key.name),
    }
}

fn take_slice(records: &RwLock<Records>, change: &Change) {
    let key = change.key();
    match change.new.as_ref().and_then(decode::<EndpointSlice>) {
        Some(slice) => records.write().put_slice(&slice),
        None => records.write().remove_slice(&key.namespace, &key.name),
    }
}

fn decode<K: Kind>(object: &StoredObject) -> Option<K> {
    object
        .decode()
        .inspect_err(
            |error| tracing::warn!(%error, key = %object.key(), "an object cannot be read"),
        )
        .ok()
}
