//! Service CIDRs of `networking.k8s.io/v1`.

use crate::validation::changes::{immutable, json};
use crate::validation::{addresses, found, path};
use apimachinery::{FieldError, FieldErrors};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::json;

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
            range
                .spec
                .as_ref()
                .and_then(|spec| spec.cidrs.as_ref())
                .map(|cidrs| cidrs.join(","))
                .unwrap_or_default()
                .into()
        }),
        Column::age(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;

    fn prepare_for_status_update(range: &mut ServiceCIDR, old: &ServiceCIDR) {
        keep_metadata(&mut range.metadata, &old.metadata);
    }

    fn validate(service_cidr: &ServiceCIDR) -> FieldErrors {
        let ranges = ranges(service_cidr);
        let path = path(&["spec", "cidrs"]);
        found(|errors| match ranges.len() {
            0 => errors.push(FieldError::required(&path, "at least one CIDR required")),
            1 | 2 => {
                for (index, range) in ranges.iter().enumerate() {
                    addresses::cidr(errors, range, &path.index(index));
                }
                let bare = ranges
                    .iter()
                    .map(|range| range.split('/').next().unwrap_or_default());
                if ranges.len() == 2 && !addresses::is_dual_stack(bare) {
                    let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                    errors.push(FieldError::invalid(&path, json(&ranges), why));
                }
            }
            _ => errors.push(FieldError::invalid(
                &path,
                json!({"CIDRs": ranges}),
                "may only hold up to 2 values",
            )),
        })
    }

    /// A second family may come; nothing else changes.
    fn validate_update(service_cidr: &ServiceCIDR, old: &ServiceCIDR) -> FieldErrors {
        let (new, old) = (ranges(service_cidr), ranges(old));
        let path = path(&["spec", "cidrs"]);
        found(|errors| {
            let is_extended = (old.len(), new.len()) == (1, 2);
            if is_extended || old.len() == new.len() {
                for (index, (new, old)) in new.iter().zip(&old).enumerate() {
                    immutable(errors, new, old, &path.index(index));
                }
            } else {
                immutable(errors, &new, &old, &path);
            }
        })
    }
}

fn ranges(service_cidr: &ServiceCIDR) -> Vec<String> {
    service_cidr
        .spec
        .as_ref()
        .and_then(|spec| spec.cidrs.clone())
        .unwrap_or_default()
}
