//! What every cluster has in this form, whoever edits it: the first and the last resort of priority and fairness.

use k8s_openapi::api::flowcontrol::v1::{
    ExemptPriorityLevelConfiguration, FlowDistinguisherMethod, FlowSchemaSpec, GroupSubject,
    LimitResponse, LimitedPriorityLevelConfiguration, NonResourcePolicyRule,
    PolicyRulesWithSubjects, PriorityLevelConfigurationReference, PriorityLevelConfigurationSpec,
    ResourcePolicyRule, Subject,
};

/// The spec of a flow schema that may not be changed.
pub(super) fn flow_schema(name: &str) -> Option<FlowSchemaSpec> {
    match name {
        "exempt" => Some(everything(name, 1, None, &["system:masters"])),
        "catch-all" => Some(everything(
            name,
            10_000,
            Some("ByUser"),
            &["system:unauthenticated", "system:authenticated"],
        )),
        _ => None,
    }
}

/// The spec of a priority level that may not be changed.
pub(super) fn priority_level(name: &str) -> Option<PriorityLevelConfigurationSpec> {
    match name {
        "exempt" => Some(PriorityLevelConfigurationSpec {
            exempt: Some(ExemptPriorityLevelConfiguration {
                lendable_percent: Some(0),
                nominal_concurrency_shares: Some(0),
            }),
            limited: None,
            type_: "Exempt".to_owned(),
        }),
        "catch-all" => Some(PriorityLevelConfigurationSpec {
            exempt: None,
            limited: Some(LimitedPriorityLevelConfiguration {
                borrowing_limit_percent: None,
                lendable_percent: Some(0),
                limit_response: Some(LimitResponse {
                    queuing: None,
                    type_: "Reject".to_owned(),
                }),
                nominal_concurrency_shares: Some(5),
            }),
            type_: "Limited".to_owned(),
        }),
        _ => None,
    }
}

/// All requests of these groups, at the level of the schema's own name.
fn everything(
    name: &str,
    precedence: i32,
    distinguisher: Option<&str>,
    groups: &[&str],
) -> FlowSchemaSpec {
    let all = || vec!["*".to_owned()];
    let group = |name: &&str| Subject {
        kind: "Group".to_owned(),
        group: Some(GroupSubject {
            name: (*name).to_owned(),
        }),
        ..Subject::default()
    };
    FlowSchemaSpec {
        distinguisher_method: distinguisher.map(|method| FlowDistinguisherMethod {
            type_: method.to_owned(),
        }),
        matching_precedence: Some(precedence),
        priority_level_configuration: PriorityLevelConfigurationReference {
            name: name.to_owned(),
        },
        rules: Some(vec![PolicyRulesWithSubjects {
            non_resource_rules: Some(vec![NonResourcePolicyRule {
                non_resource_urls: all(),
                verbs: all(),
            }]),
            resource_rules: Some(vec![ResourcePolicyRule {
                api_groups: all(),
                cluster_scope: Some(true),
                namespaces: Some(all()),
                resources: all(),
                verbs: all(),
            }]),
            subjects: groups.iter().map(group).collect(),
        }]),
    }
}
