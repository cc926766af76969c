//! Priority Classes of `scheduling.k8s.io/v1`.

use crate::validation::changes::immutable;
use crate::validation::{found, path, required_one_of};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::scheduling::v1::PriorityClass;

use crate::{Column, Generation, Strategy};

/// Objects of kind `PriorityClass`.
#[derive(Debug)]
pub struct PriorityClasses;

impl Strategy for PriorityClasses {
    type Kind = PriorityClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Value", |class, _| class.value.into()),
        Column::boolean("Global-Default", |class, _| {
            class.global_default.unwrap_or(false).into()
        }),
        Column::age(),
        Column::text("PreemptionPolicy", |class, _| {
            class.preemption_policy.clone().unwrap_or_default().into()
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["pc"];
    const GENERATION: Generation = Generation::One;

    fn default(class: &mut PriorityClass) {
        class
            .preemption_policy
            .get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }

    fn validate_create(class: &PriorityClass) -> FieldErrors {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        let value = class.value.unwrap_or(0);
        found(|errors| {
            if name.starts_with(SYSTEM_PREFIX) {
                if let Some(why) =
                    no_system_class(name, value, class.global_default.unwrap_or(false))
                {
                    let why = format!(
                        "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
                    );
                    errors.push(FieldError::forbidden(&path(&["metadata", "name"]), why));
                }
            } else if value > USER_VALUE_MAX {
                let why =
                    format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}");
                errors.push(FieldError::forbidden(&FieldPath::new("value"), why));
            }
            if let Some(policy) = &class.preemption_policy {
                let path = FieldPath::new("preemptionPolicy");
                required_one_of(errors, policy, &["PreemptLowerPriority", "Never"], &path);
            }
        })
    }

    fn validate_update(class: &PriorityClass, old: &PriorityClass) -> FieldErrors {
        found(|errors| {
            if class.value.unwrap_or(0) != old.value.unwrap_or(0) {
                errors.push(FieldError::forbidden(
                    &FieldPath::new("value"),
                    "may not be changed in an update.",
                ));
            }
            let path = FieldPath::new("preemptionPolicy");
            immutable(
                errors,
                &class.preemption_policy,
                &old.preemption_policy,
                &path,
            );
        })
    }
}

const SYSTEM_PREFIX: &str = "system-";
/// Above are the classes of the system.
const USER_VALUE_MAX: i32 = 1_000_000_000;
const SYSTEM_CLASSES: [(&str, i32); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

fn no_system_class(name: &str, value: i32, is_global: bool) -> Option<String> {
    match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, expected)) if *expected != value => {
            Some(format!("value of {name} PriorityClass must be {expected}"))
        }
        Some(_) if is_global => Some(format!(
            "globalDefault of {name} PriorityClass must be false"
        )),
        Some(_) => None,
    }
}
