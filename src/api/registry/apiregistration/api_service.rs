//! APIServices of `apiregistration.k8s.io/v1`.

use apimachinery::NameRule;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::{Permission, Strategy, Subresource};

/// Objects of kind `APIService`.
#[derive(Debug)]
pub struct APIServices;

impl Strategy for APIServices {
    type Kind = APIService;
    /// `v1.` is the name of the core group's.
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(service: &mut APIService) {
        if let Some(reference) = service.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            reference.port.get_or_insert(443);
        }
    }
}
