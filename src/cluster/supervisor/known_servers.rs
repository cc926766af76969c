//! An agent's list of servers: the endpoints of the Service `kubernetes`, and what else leads to them.

use std::net::{IpAddr, SocketAddr};

use apimachinery::StoredObject;
use env::Shutdown;
use informer::Factory;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rest::SERVER_ADDRESSES_ANNOTATION;
use tunnel::{Known, Servers};

/// The Service that leads to the API servers.
const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";

/// Keeps the list as the cluster says it, until the end is asked for.
pub(crate) async fn follow(factory: &Factory, servers: &Servers, shutdown: &Shutdown) {
    // The Service proxy looks at all of them.
    let slices = factory.all::<EndpointSlice>();
    let changes = slices.subscribe();
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            change = changes.next() => if change.key().namespace != NAMESPACE { continue },
        }
        let mut known = Known::default();
        for slice in slices
            .list_namespace(NAMESPACE)
            .iter()
            .filter(|slice| is_of_servers(slice))
        {
            if let Ok(slice) = slice.decode::<EndpointSlice>() {
                known.servers.extend(endpoints(&slice));
                known.others.extend(others(&slice));
            }
        }
        if let Err(error) = servers.replace(known) {
            tracing::warn!(%error, "the list of servers is not kept");
        }
    }
}

fn is_of_servers(slice: &StoredObject) -> bool {
    slice.index.label("kubernetes.io/service-name") == Some(SERVICE)
}

fn endpoints(slice: &EndpointSlice) -> Vec<String> {
    let ports: Vec<u16> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| u16::try_from(port.port?).ok())
        .collect();
    let addresses = slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| &endpoint.addresses);
    addresses
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .flat_map(|address| {
            ports
                .iter()
                .map(move |port| SocketAddr::new(address, *port).to_string())
        })
        .collect()
}

fn others(slice: &EndpointSlice) -> Vec<String> {
    let annotations = slice.metadata.annotations.as_ref();
    let told = annotations.and_then(|all| all.get(SERVER_ADDRESSES_ANNOTATION));
    let told = told.into_iter().flat_map(|text| text.split(','));
    told.filter(|one| one.parse::<SocketAddr>().is_ok())
        .map(str::to_owned)
        .collect()
}
