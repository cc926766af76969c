//! Kinds of the group `resource`, one file each.

pub mod device_class;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_slice;

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::resource::v1::ResourceClaimSpec;

use crate::validation::{names, one_of};

const ONE_BY_ONE: &str = "ExactCount";

/// The names in a claim, its classes and how many devices it asks for.
fn validate_claim(errors: &mut FieldErrors, claim: &ResourceClaimSpec, path: &FieldPath) {
    let path = path.child("devices").child("requests");
    let mut taken = BTreeSet::new();
    for (index, request) in claim
        .devices
        .iter()
        .flat_map(|devices| devices.requests.iter().flatten())
        .enumerate()
    {
        let path = path.index(index);
        request_name(errors, &request.name, &path.child("name"));
        if !taken.insert(&request.name) {
            errors.push(FieldError::duplicate(
                &path.child("name"),
                request.name.as_str(),
            ));
        }
        if let Some(exactly) = &request.exactly {
            let path = path.child("exactly");
            let (mode, count) = (exactly.allocation_mode.as_deref(), exactly.count);
            devices(errors, &exactly.device_class_name, mode, count, &path);
        }
        for (index, option) in request.first_available.iter().flatten().enumerate() {
            let path = path.child("firstAvailable").index(index);
            request_name(errors, &option.name, &path.child("name"));
            let (mode, count) = (option.allocation_mode.as_deref(), option.count);
            devices(errors, &option.device_class_name, mode, count, &path);
        }
    }
}

fn request_name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    match name {
        "" => errors.push(FieldError::required(path, "")),
        name => names::dns_label(errors, name, path),
    }
}

fn devices(
    errors: &mut FieldErrors,
    class: &str,
    mode: Option<&str>,
    count: Option<i64>,
    path: &FieldPath,
) {
    match class {
        "" => errors.push(FieldError::required(&path.child("deviceClassName"), "")),
        class => names::dns_subdomain(errors, class, &path.child("deviceClassName")),
    }
    let (mode, count) = (mode.unwrap_or_default(), count.unwrap_or(0));
    one_of(
        errors,
        mode,
        &["All", ONE_BY_ONE],
        &path.child("allocationMode"),
    );
    if mode == ONE_BY_ONE && count <= 0 {
        errors.push(FieldError::invalid(
            &path.child("count"),
            count,
            "must be greater than zero",
        ));
    }
    if mode == "All" && count != 0 {
        let why = "must not be specified when allocationMode is 'All'";
        errors.push(FieldError::invalid(&path.child("count"), count, why));
    }
}
