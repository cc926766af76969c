//! Kinds that clients are told to leave.

use registry::Description;

/// Core kinds, and what every answer about them warns of.
const DEPRECATED: &[(&str, &str)] = &[
    (
        "ComponentStatus",
        "v1 ComponentStatus is deprecated in v1.19+",
    ),
    (
        "Endpoints",
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
];

pub(crate) fn warning(description: &Description) -> Option<&'static str> {
    let is_core = description.kind.group.is_empty();
    DEPRECATED
        .iter()
        .find(|(kind, _)| is_core && *kind == description.kind.kind)
        .map(|(_, warning)| *warning)
}
