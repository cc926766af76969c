//! What a failed pod means to its job, and when a job counts as successful early (KEP-3329, KEP-3998).

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy,
};

use super::indexes::Indexes;
use super::pods::JobPod;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It counts towards the limits.
    Counts,
    Ignored,
    /// Its index has failed for good.
    FailsIndex,
    /// The job has failed, for this reason.
    FailsJob(String),
}

/// The first rule that matches decides.
pub(super) fn meaning(policy: Option<&PodFailurePolicy>, pod: &JobPod) -> Meaning {
    for (at, rule) in policy.iter().flat_map(|policy| &policy.rules).enumerate() {
        let Some(matched) = matched(rule, pod) else {
            continue;
        };
        match rule.action.as_str() {
            "Ignore" => return Meaning::Ignored,
            "FailIndex" => return Meaning::FailsIndex,
            "Count" => return Meaning::Counts,
            "FailJob" => {
                let key = pod.facts.key();
                return Meaning::FailsJob(match matched {
                    Matched::Exit(container, code) => format!(
                        "Container {container} for pod {key} failed with exit code {code} matching FailJob rule at index {at}"
                    ),
                    Matched::Condition(kind) => {
                        format!(
                            "Pod {key} has condition {kind} matching FailJob rule at index {at}"
                        )
                    }
                });
            }
            _ => {}
        }
    }
    Meaning::Counts
}

enum Matched<'a> {
    Exit(&'a str, i32),
    Condition(&'a str),
}

fn matched<'a>(rule: &PodFailurePolicyRule, pod: &'a JobPod) -> Option<Matched<'a>> {
    if let Some(requirement) = &rule.on_exit_codes {
        let exit = pod
            .exits
            .iter()
            .find(|(container, code)| exit_matches(requirement, container, *code));
        return exit.map(|(container, code)| Matched::Exit(container, *code));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let condition = pod.conditions.iter().find(|(kind, status)| {
        let wanted =
            |pattern: &k8s_openapi::api::batch::v1::PodFailurePolicyOnPodConditionsPattern| {
                pattern.status.as_deref().unwrap_or("True") == status
            };
        patterns
            .iter()
            .any(|pattern| pattern.type_ == *kind && wanted(pattern))
    });
    condition.map(|(kind, _)| Matched::Condition(kind))
}

fn exit_matches(
    requirement: &PodFailurePolicyOnExitCodesRequirement,
    container: &str,
    code: i32,
) -> bool {
    let is_meant = requirement
        .container_name
        .as_deref()
        .is_none_or(|name| name == container);
    let is_listed = requirement.values.contains(&code);
    is_meant && code != 0 && (requirement.operator == "In") == is_listed
}

/// The rule that makes the job a success before all its indexes are done.
pub(super) fn success(
    policy: Option<&SuccessPolicy>,
    succeeded: &Indexes,
    completions: i32,
) -> Option<String> {
    if succeeded.count() == 0 {
        return None;
    }
    let rules = policy.iter().flat_map(|policy| &policy.rules).enumerate();
    let is_met = |rule: &k8s_openapi::api::batch::v1::SuccessPolicyRule| match (
        &rule.succeeded_indexes,
        rule.succeeded_count,
    ) {
        (Some(indexes), count) => {
            let wanted = Indexes::parse(indexes, completions);
            let have = wanted.count_shared(succeeded);
            wanted.count() > 0
                && (have == wanted.count() || count.is_some_and(|count| have >= count))
        }
        (None, Some(count)) => succeeded.count() >= count,
        (None, None) => false,
    };
    rules
        .into_iter()
        .find(|(_, rule)| is_met(rule))
        .map(|(at, _)| format!("Matched rules at index {at}"))
}
