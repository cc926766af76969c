//! Validation of a job's spec, in jobs and in cron jobs.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule, SuccessPolicyRule,
};

use super::indexes;
use crate::pod_template::validation::template_spec;
use crate::validation::numbers::non_negative;
use crate::validation::{names, one_of, text};

const INDEXED_PARALLELISM_MAX: i32 = 100_000;
const FAILED_INDEXES_MAX: i32 = 100_000;
const MANY_COMPLETIONS: i32 = 100_000;
const PARALLELISM_WITH_MANY_COMPLETIONS_MAX: i32 = 10_000;
const FAILED_INDEXES_WITH_MANY_COMPLETIONS_MAX: i32 = 10_000;
const FAILURE_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const MANAGED_BY_BYTES_MAX: usize = 63;
const SUCCESS_RULES_MAX: usize = 20;
const SUCCEEDED_INDEXES_BYTES_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Everything but the selector.
pub(super) fn job_spec(errors: &mut FieldErrors, spec: &JobSpec, path: &FieldPath) {
    for (number, field) in [
        (spec.parallelism.map(i64::from), "parallelism"),
        (spec.completions.map(i64::from), "completions"),
        (spec.active_deadline_seconds, "activeDeadlineSeconds"),
        (spec.backoff_limit.map(i64::from), "backoffLimit"),
        (
            spec.ttl_seconds_after_finished.map(i64::from),
            "ttlSecondsAfterFinished",
        ),
        (
            spec.backoff_limit_per_index.map(i64::from),
            "backoffLimitPerIndex",
        ),
        (spec.max_failed_indexes.map(i64::from), "maxFailedIndexes"),
    ] {
        non_negative(errors, number.unwrap_or(0), &path.child(field));
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.push(FieldError::required(
            &path.child("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        ));
    }
    if let Some(manager) = &spec.managed_by {
        let path = path.child("managedBy");
        names::domain_prefixed_path(errors, manager, &path);
        if manager.len() > MANAGED_BY_BYTES_MAX {
            errors.push(FieldError::too_long(
                &path,
                i64::try_from(MANAGED_BY_BYTES_MAX).unwrap_or(i64::MAX),
            ));
        }
    }
    completion_mode(errors, spec, path);
    failure_policy(errors, spec, &path.child("podFailurePolicy"));
    success_policy(errors, spec, &path.child("successPolicy"));
    if let Some(policy) = &spec.pod_replacement_policy {
        let all: &[&str] = if spec.pod_failure_policy.is_some() {
            &["Failed"]
        } else {
            &["Failed", "TerminatingOrFailed"]
        };
        one_of(errors, policy, all, &path.child("podReplacementPolicy"));
    }
    template_spec(errors, &spec.template, &path.child("template"));
    restart_policy(
        errors,
        spec,
        &path.child("template").child("spec").child("restartPolicy"),
    );
}

fn restart_policy(errors: &mut FieldErrors, spec: &JobSpec, path: &FieldPath) {
    match spec
        .template
        .spec
        .as_ref()
        .map_or("", |pod| text(&pod.restart_policy))
    {
        "Always" | "" => errors.push(FieldError::required(
            path,
            "valid values: \"OnFailure\", \"Never\"",
        )),
        "Never" => {}
        "OnFailure" => {
            if spec.pod_failure_policy.is_some() {
                let why = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.push(FieldError::invalid(path, "OnFailure", why));
            }
        }
        other => errors.push(FieldError::not_supported(
            path,
            other,
            &["OnFailure", "Never"],
        )),
    }
}

fn completion_mode(errors: &mut FieldErrors, spec: &JobSpec, path: &FieldPath) {
    let mode = spec.completion_mode.as_deref();
    if let Some(mode) = mode {
        one_of(
            errors,
            mode,
            &["NonIndexed", "Indexed"],
            &path.child("completionMode"),
        );
    }
    if is_indexed(spec) {
        indexed(errors, spec, path);
    }
    if matches!(mode, None | Some("NonIndexed")) {
        for (number, field) in [
            (spec.backoff_limit_per_index, "backoffLimitPerIndex"),
            (spec.max_failed_indexes, "maxFailedIndexes"),
        ] {
            if let Some(number) = number {
                errors.push(FieldError::invalid(
                    &path.child(field),
                    number,
                    "requires indexed completion mode",
                ));
            }
        }
    }
}

fn indexed(errors: &mut FieldErrors, spec: &JobSpec, path: &FieldPath) {
    let failed_path = path.child("maxFailedIndexes");
    let too_much =
        |errors: &mut FieldErrors, number: Option<i32>, max: i32, path: &FieldPath, when: &str| {
            if let Some(number) = number.filter(|number| *number > max) {
                let why = format!("must be less than or equal to {max}{when}");
                errors.push(FieldError::invalid(path, number, why));
            }
        };
    if spec.completions.is_none() {
        errors.push(FieldError::required(
            &path.child("completions"),
            "when completion mode is Indexed",
        ));
    }
    let parallelism = (spec.parallelism, path.child("parallelism"));
    let when = " when completion mode is Indexed";
    too_much(
        errors,
        parallelism.0,
        INDEXED_PARALLELISM_MAX,
        &parallelism.1,
        when,
    );
    if let (Some(completions), Some(failed)) = (spec.completions, spec.max_failed_indexes)
        && failed > completions
    {
        errors.push(FieldError::invalid(
            &failed_path,
            failed,
            "must be less than or equal to completions",
        ));
    }
    too_much(
        errors,
        spec.max_failed_indexes,
        FAILED_INDEXES_MAX,
        &failed_path,
        "",
    );
    let has_many = spec
        .completions
        .is_some_and(|completions| completions > MANY_COMPLETIONS);
    if has_many && spec.backoff_limit_per_index.is_some() {
        if spec.max_failed_indexes.is_none() {
            let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
            errors.push(FieldError::required(&failed_path, why));
        }
        let when = format!(
            " when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
        );
        too_much(
            errors,
            parallelism.0,
            PARALLELISM_WITH_MANY_COMPLETIONS_MAX,
            &parallelism.1,
            &when,
        );
        too_much(
            errors,
            spec.max_failed_indexes,
            FAILED_INDEXES_WITH_MANY_COMPLETIONS_MAX,
            &failed_path,
            &when,
        );
    }
}

fn failure_policy(errors: &mut FieldErrors, spec: &JobSpec, path: &FieldPath) {
    let Some(policy) = &spec.pod_failure_policy else {
        return;
    };
    let path = path.child("rules");
    if policy.rules.len() > FAILURE_RULES_MAX {
        errors.push(FieldError::too_many(
            &path,
            policy.rules.len(),
            FAILURE_RULES_MAX,
        ));
    }
    let pod = spec.template.spec.clone().unwrap_or_default();
    let names: BTreeSet<String> = pod
        .containers
        .iter()
        .chain(pod.init_containers.iter().flatten())
        .map(|container| container.name.clone())
        .collect();
    for (index, rule) in policy.rules.iter().enumerate() {
        failure_rule(errors, spec, rule, &names, &path.index(index));
    }
}

/// `["a" "b"]`, as Go prints a list of texts.
fn listed(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn failure_rule(
    errors: &mut FieldErrors,
    spec: &JobSpec,
    rule: &PodFailurePolicyRule,
    containers: &BTreeSet<String>,
    path: &FieldPath,
) {
    let action = path.child("action");
    match rule.action.as_str() {
        "" => errors.push(FieldError::required(&action, listed(&ACTIONS))),
        "FailIndex" if spec.backoff_limit_per_index.is_none() => {
            let why = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(&action, "FailIndex", why));
        }
        other => one_of(errors, other, &ACTIONS, &action),
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(errors, codes, containers, &path.child("onExitCodes"));
    }
    pod_conditions(errors, conditions, &path.child("onPodConditions"));
    let why = match (rule.on_exit_codes.is_some(), !conditions.is_empty()) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(FieldError::invalid_whole(path, why));
}

fn pod_conditions(
    errors: &mut FieldErrors,
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
    path: &FieldPath,
) {
    const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
    if patterns.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, patterns.len(), CONDITIONS_MAX));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        names::qualified_name(errors, &pattern.type_, &path.child("type"));
        match text(&pattern.status) {
            "" => errors.push(FieldError::required(
                &path.child("status"),
                listed(&STATUSES),
            )),
            status => one_of(errors, status, &STATUSES, &path.child("status")),
        }
    }
}

fn exit_codes(
    errors: &mut FieldErrors,
    codes: &PodFailurePolicyOnExitCodesRequirement,
    containers: &BTreeSet<String>,
    path: &FieldPath,
) {
    const OPERATORS: [&str; 2] = ["In", "NotIn"];
    match codes.operator.as_str() {
        "" => errors.push(FieldError::required(
            &path.child("operator"),
            listed(&OPERATORS),
        )),
        operator => one_of(errors, operator, &OPERATORS, &path.child("operator")),
    }
    if let Some(name) = codes
        .container_name
        .as_ref()
        .filter(|name| !containers.contains(*name))
    {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(
            &path.child("containerName"),
            name.as_str(),
            why,
        ));
    }
    let path = path.child("values");
    if codes.values.is_empty() {
        errors.push(FieldError::invalid(
            &path,
            Vec::<i32>::new(),
            "at least one value is required",
        ));
    } else if codes.values.len() > EXIT_CODES_MAX {
        errors.push(FieldError::too_many(
            &path,
            codes.values.len(),
            EXIT_CODES_MAX,
        ));
    }
    let mut seen = BTreeSet::new();
    for (index, code) in codes.values.iter().enumerate() {
        if codes.operator == "In" && *code == 0 {
            errors.push(FieldError::invalid(
                &path.index(index),
                *code,
                "must not be 0 for the In operator",
            ));
        }
        if !seen.insert(*code) {
            errors.push(FieldError::duplicate(&path.index(index), *code));
        }
    }
    if !codes.values.is_sorted() {
        errors.push(FieldError::invalid(
            &path,
            codes.values.clone(),
            "must be ordered",
        ));
    }
}

fn success_policy(errors: &mut FieldErrors, spec: &JobSpec, path: &FieldPath) {
    let Some(policy) = &spec.success_policy else {
        return;
    };
    if !is_indexed(spec) {
        let rules: Vec<serde_json::Value> = policy
            .rules
            .iter()
            .map(|rule| {
                serde_json::json!({"SucceededIndexes": rule.succeeded_indexes, "SucceededCount": rule.succeeded_count})
            })
            .collect();
        let shown = serde_json::json!({"Rules": rules});
        errors.push(FieldError::invalid(
            path,
            shown,
            "requires indexed completion mode",
        ));
        return;
    }
    let path = path.child("rules");
    if policy.rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, why));
    }
    if policy.rules.len() > SUCCESS_RULES_MAX {
        errors.push(FieldError::too_many(
            &path,
            policy.rules.len(),
            SUCCESS_RULES_MAX,
        ));
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        success_rule(
            errors,
            rule,
            spec.completions.unwrap_or(0),
            &path.index(index),
        );
    }
}

fn success_rule(
    errors: &mut FieldErrors,
    rule: &SuccessPolicyRule,
    completions: i32,
    path: &FieldPath,
) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, why));
    }
    let mut total = 0;
    if let Some(listed) = &rule.succeeded_indexes {
        let path = path.child("succeededIndexes");
        if listed.len() > SUCCEEDED_INDEXES_BYTES_MAX {
            errors.push(FieldError::too_long(
                &path,
                i64::try_from(SUCCEEDED_INDEXES_BYTES_MAX).unwrap_or(i64::MAX),
            ));
        }
        match indexes::count(listed, completions) {
            Ok(count) => total = count,
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(&path, listed.as_str(), why));
            }
        }
    }
    let Some(count) = rule.succeeded_count else {
        return;
    };
    let path = path.child("succeededCount");
    non_negative(errors, count, &path);
    if count > completions {
        let why = format!(
            "must be less than or equal to {completions} (the number of specified completions)"
        );
        errors.push(FieldError::invalid(&path, count, why));
    }
    if rule.succeeded_indexes.is_some() && count > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.push(FieldError::invalid(&path, count, why));
    }
}
