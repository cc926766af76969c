//! Endpoint Slices of `discovery.k8s.io/v1`.

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::{Generation, Strategy};

/// Objects of kind `EndpointSlice`.
#[derive(Debug)]
pub struct EndpointSlices;

impl Strategy for EndpointSlices {
    type Kind = EndpointSlice;
    const GENERATION: Generation = Generation::Content;

    fn default(slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
}
