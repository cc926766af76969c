//! Ingresses of `networking.k8s.io/v1`.

use k8s_openapi::api::networking::v1::Ingress;

use crate::{Generation, Strategy, Subresource};

/// Objects of kind `Ingress`.
#[derive(Debug)]
pub struct Ingresses;

impl Strategy for Ingresses {
    type Kind = Ingress;
    const SHORT_NAMES: &'static [&'static str] = &["ing"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
}
