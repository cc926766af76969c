//! Service CIDRs of `networking.k8s.io/v1`.

use k8s_openapi::api::networking::v1::ServiceCIDR;

use crate::status::keep_metadata;
use crate::{Column, StatusMetadata, Strategy, Subresource};

/// Objects of kind `ServiceCIDR`.
#[derive(Debug)]
pub struct ServiceCIDRs;

impl Strategy for ServiceCIDRs {
    type Kind = ServiceCIDR;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("CIDRs", |range, _| {
            range.spec.as_ref().and_then(|spec| spec.cidrs.as_ref()).map(|cidrs| cidrs.join(",")).unwrap_or_default().into()
        }),
        Column::age(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;

    fn prepare_for_status_update(range: &mut ServiceCIDR, old: &ServiceCIDR) {
        keep_metadata(&mut range.metadata, &old.metadata);
    }
}
