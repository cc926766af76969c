//! Endpoint Slices of `discovery.k8s.io/v1`.

use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};

use crate::{Column, Generation, Strategy};
use crate::cells;

/// Objects of kind `EndpointSlice`.
#[derive(Debug)]
pub struct EndpointSlices;

impl Strategy for EndpointSlices {
    type Kind = EndpointSlice;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("AddressType", |slice, _| slice.address_type.clone().into()),
        Column::text("Ports", |slice, _| cells::text_or(cells::with_more(&ports(slice)).as_deref(), cells::UNSET)),
        Column::text("Endpoints", |slice, _| cells::text_or(cells::with_more(&addresses(slice)).as_deref(), cells::UNSET)),
        Column::age(),
    ];
    const GENERATION: Generation = Generation::Content;

    fn default(slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn prepare_for_update(slice: &mut EndpointSlice, old: &EndpointSlice) {
        if slice.metadata.labels != old.metadata.labels {
            slice.metadata.generation = old.metadata.generation.map(|generation| generation + 1);
        }
    }
}

fn ports(slice: &EndpointSlice) -> Vec<String> {
    let text = |port: &EndpointPort| match port.port {
        Some(number) => number.to_string(),
        None => port.name.clone().unwrap_or_else(|| "*".to_owned()),
    };
    slice.ports.iter().flatten().map(text).collect()
}

fn addresses(slice: &EndpointSlice) -> Vec<String> {
    slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect()
}
