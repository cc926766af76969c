//! Priority Level Configurations of `flowcontrol.apiserver.k8s.io/v1`.

use super::flow_schema::condition_types;
use super::mandatory;
use crate::validation::changes::json;
use crate::validation::numbers::in_range;
use crate::validation::{found, one_of, text};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::flowcontrol::v1::{
    LimitedPriorityLevelConfiguration, PriorityLevelConfiguration, PriorityLevelConfigurationSpec,
    QueuingConfiguration,
};
use serde_json::Value;

use crate::cells;
use crate::status::keep_metadata;
use crate::{Column, Generation, StatusMetadata, Strategy, Subresource};

const QUEUES_MAX: i32 = 10_000_000;
/// Bits of the hash that deals a request its hand of queues.
const HASH_BITS: f64 = 60.0;

/// Objects of kind `PriorityLevelConfiguration`.
#[derive(Debug)]
pub struct PriorityLevelConfigurations;

impl Strategy for PriorityLevelConfigurations {
    type Kind = PriorityLevelConfiguration;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Type", |level, _| {
            level
                .spec
                .as_ref()
                .map(|spec| spec.type_.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::text("NominalConcurrencyShares", |level, _| {
            match limited(level) {
                Some(limited) => limited.nominal_concurrency_shares.unwrap_or(0).into(),
                None => cells::NONE.into(),
            }
        }),
        Column::text("Queues", |level, _| {
            queuing(level, |queuing| queuing.queues)
        }),
        Column::text("HandSize", |level, _| {
            queuing(level, |queuing| queuing.hand_size)
        }),
        Column::text("QueueLengthLimit", |level, _| {
            queuing(level, |queuing| queuing.queue_length_limit)
        }),
        Column::age(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const GENERATION: Generation = Generation::Spec;

    fn default(level: &mut PriorityLevelConfiguration) {
        let Some(spec) = &mut level.spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        if let Some(limited) = &mut spec.limited {
            limited.nominal_concurrency_shares.get_or_insert(30);
            limited.lendable_percent.get_or_insert(0);
            if let Some(queuing) = limited
                .limit_response
                .as_mut()
                .and_then(|response| response.queuing.as_mut())
            {
                for (field, value) in [
                    (&mut queuing.queues, 64),
                    (&mut queuing.hand_size, 8),
                    (&mut queuing.queue_length_limit, 50),
                ] {
                    if field.unwrap_or(0) == 0 {
                        *field = Some(value);
                    }
                }
            }
        }
    }

    fn prepare_for_status_update(
        level: &mut PriorityLevelConfiguration,
        old: &PriorityLevelConfiguration,
    ) {
        keep_metadata(&mut level.metadata, &old.metadata);
    }

    fn validate(level: &PriorityLevelConfiguration) -> FieldErrors {
        let Some(spec) = &level.spec else {
            return FieldErrors::none();
        };
        let path = FieldPath::new("spec");
        let kind = spec.type_.as_str();
        let is_exempt = level.metadata.name.as_deref() == Some("exempt");
        found(|errors| {
            if is_exempt != (kind == "Exempt") {
                let why = "must be 'Exempt' if and only if `name` is 'exempt'";
                errors.push(FieldError::invalid(&path.child("type"), kind, why));
            }
            let limited_path = path.child("limited");
            match (kind, &spec.limited) {
                ("Exempt", Some(_)) => {
                    errors.push(FieldError::forbidden(
                        &limited_path,
                        "must be nil if the type is not Limited",
                    ));
                }
                ("Limited", None) => {
                    errors.push(FieldError::required(
                        &limited_path,
                        "must not be empty when type is Limited",
                    ));
                }
                ("Limited", Some(limited)) => one_limit(errors, limited, &limited_path),
                ("Exempt", None) => (),
                _ => one_of(errors, kind, &["Exempt", "Limited"], &path.child("type")),
            }
            match (kind, &spec.exempt) {
                ("Limited", Some(_)) => {
                    errors.push(FieldError::forbidden(
                        &path.child("exempt"),
                        "must be nil if the type is Limited",
                    ));
                }
                ("Exempt", Some(exempt)) => {
                    let path = path.child("exempt");
                    shares(
                        errors,
                        exempt.nominal_concurrency_shares,
                        exempt.lendable_percent,
                        &path,
                    );
                }
                _ => (),
            }
            fixed_spec(errors, level, spec);
            conditions(errors, level);
        })
    }

    fn validate_status_update(
        level: &PriorityLevelConfiguration,
        _old: &PriorityLevelConfiguration,
    ) -> FieldErrors {
        found(|errors| conditions(errors, level))
    }
}

/// Two levels are as they are; only how much the exempt one lends may be chosen.
fn fixed_spec(
    errors: &mut FieldErrors,
    level: &PriorityLevelConfiguration,
    spec: &PriorityLevelConfigurationSpec,
) {
    let name = level.metadata.name.as_deref().unwrap_or_default();
    let Some(mut fixed) = mandatory::priority_level(name) else {
        return;
    };
    let mut except = "";
    if name == "exempt" {
        fixed.exempt.clone_from(&spec.exempt);
        except = " except the 'spec.exempt' field";
    }
    if fixed != *spec {
        let why = format!("spec of '{name}'{except} must equal the fixed value");
        errors.push(FieldError::invalid(
            &FieldPath::new("spec"),
            json(spec),
            why,
        ));
    }
}

fn conditions(errors: &mut FieldErrors, level: &PriorityLevelConfiguration) {
    let all = level
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let kinds = all
        .unwrap_or_default()
        .iter()
        .map(|condition| text(&condition.type_));
    condition_types(errors, kinds);
}

/// Queues that a request may be put into: as many bits as choosing a hand of them needs must be in a hash.
fn hand(errors: &mut FieldErrors, queuing: &QueuingConfiguration, path: &FieldPath) {
    let (queues, size) = (queuing.queues.unwrap_or(0), queuing.hand_size.unwrap_or(0));
    if queues > QUEUES_MAX {
        let why = format!("must not be greater than {QUEUES_MAX}");
        errors.push(FieldError::invalid(&path.child("queues"), queues, why));
    }
    if size <= 0 {
        return;
    }
    let bits = (f64::from(queues.max(1)).log2() * f64::from(size)).ceil();
    let path = path.child("handSize");
    if size > queues {
        let why = format!("should not be greater than queues ({queues})");
        errors.push(FieldError::invalid(&path, size, why));
    } else if bits > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {size} should not be greater than {HASH_BITS}"
        );
        errors.push(FieldError::invalid(&path, size, why));
    }
}

fn limited(level: &PriorityLevelConfiguration) -> Option<&LimitedPriorityLevelConfiguration> {
    level.spec.as_ref()?.limited.as_ref()
}

fn queuing(
    level: &PriorityLevelConfiguration,
    field: fn(&QueuingConfiguration) -> Option<i32>,
) -> Value {
    let queuing =
        limited(level).and_then(|limited| limited.limit_response.as_ref()?.queuing.as_ref());
    queuing.map_or(cells::NONE.into(), |queuing| {
        field(queuing).unwrap_or(0).into()
    })
}

fn shares(errors: &mut FieldErrors, shares: Option<i32>, lendable: Option<i32>, path: &FieldPath) {
    if let Some(shares) = shares.filter(|shares| *shares < 0) {
        let why = "must be a non-negative integer";
        errors.push(FieldError::invalid(
            &path.child("nominalConcurrencyShares"),
            shares,
            why,
        ));
    }
    if let Some(percent) = lendable {
        in_range(errors, percent, 0, 100, &path.child("lendablePercent"));
    }
}

fn one_limit(
    errors: &mut FieldErrors,
    limited: &LimitedPriorityLevelConfiguration,
    path: &FieldPath,
) {
    shares(
        errors,
        limited.nominal_concurrency_shares,
        limited.lendable_percent,
        path,
    );
    if let Some(percent) = limited
        .borrowing_limit_percent
        .filter(|percent| *percent < 0)
    {
        let why = "if specified, must be a non-negative integer";
        errors.push(FieldError::invalid(
            &path.child("borrowingLimitPercent"),
            percent,
            why,
        ));
    }
    let Some(response) = &limited.limit_response else {
        return;
    };
    let path = path.child("limitResponse");
    let queuing_path = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(&queuing_path, why));
        }
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(&queuing_path, why));
        }
        ("Queue", Some(queuing)) => {
            let sizes = [
                ("queueLengthLimit", queuing.queue_length_limit),
                ("queues", queuing.queues),
                ("handSize", queuing.hand_size),
            ];
            for (field, size) in sizes {
                if size.unwrap_or(0) <= 0 {
                    errors.push(FieldError::invalid(
                        &queuing_path.child(field),
                        size.unwrap_or(0),
                        "must be positive",
                    ));
                }
            }
            hand(errors, queuing, &queuing_path);
        }
        ("Reject", None) => (),
        (other, _) => one_of(errors, other, &["Queue", "Reject"], &path.child("type")),
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::Object;
    use serde_json::{Value, json};

    use super::*;
    use crate::Resource;

    fn refused(name: &str, spec: Value) -> Vec<String> {
        let object = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "PriorityLevelConfiguration", "metadata": {"name": name}, "spec": spec});
        let mut object = Object::from_value(object).expect("an object");
        PriorityLevelConfigurations
            .default(&mut object)
            .expect("an object");
        let verdict = PriorityLevelConfigurations
            .check_create(&mut object)
            .expect("a verdict");
        verdict.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_levels_are_as_they_are() {
        let exempt =
            |shares: i32| json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": shares}});
        assert_eq!(refused("exempt", exempt(7)), Vec::<String>::new());
        let catch_all = |shares: i32| {
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": shares, "limitResponse": {"type": "Reject"}}})
        };
        assert_eq!(refused("catch-all", catch_all(5)), Vec::<String>::new());
        let errors = refused("catch-all", catch_all(6));
        assert!(
            errors[0].ends_with("spec of 'catch-all' must equal the fixed value"),
            "{errors:?}"
        );
    }

    #[test]
    fn a_hand_of_queues_fits_into_a_hash() {
        let queues = |queues: i32, hand: i32| {
            json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {
                "queues": queues, "handSize": hand, "queueLengthLimit": 1}}}})
        };
        assert_eq!(refused("a", queues(64, 10)), Vec::<String>::new());
        assert_eq!(
            refused("a", queues(64, 11)),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 11: required entropy bits \
              of deckSize 64 and handSize 11 should not be greater than 60"
            ]
        );
        assert_eq!(
            refused("a", queues(4, 5)),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)"
            ]
        );
    }
}
