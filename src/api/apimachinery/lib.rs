//! The words every part of Kubernetes shares: objects, names, errors, selectors, quantities, patches.
//!
//! Pure: no I/O, no clock, no task.

mod error;
mod field;
mod key;
mod names;
mod object;
mod patch;
mod quantity;
mod selector;
mod stored;
mod typed;
pub mod version;
pub mod zero_times;

pub use error::{ApiError, Cause, Reason, StatusDetails};
pub use field::{FieldError, FieldErrorKind, FieldErrors, FieldPath, in_order};
pub use key::{
    GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource, ObjectKey,
};
pub use names::{
    NameRule, annotation_errors, dns1035_label_error, dns1123_label_error, dns1123_subdomain_error,
    generate_name, label_errors, label_key_error, label_value_error, path_segment_error,
    qualified_name_errors,
};
pub use object::{Object, OwnerReference};
pub use patch::{PATCH_OPERATIONS_MAX, json_patch, merge_patch};
pub use quantity::{Quantity, QuantityError};
pub use selector::{
    FieldRequirement, FieldSelector, LabelSelector, Operator, Requirement, SelectorError,
};
pub use stored::{ObjectIndex, StoredObject};
pub use typed::{from_json, from_tree, shared_code, to_json, to_tree};
