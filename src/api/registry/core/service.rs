//! Services of `v1`.

use apimachinery::NameRule;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{DeleteAnswer, Permission, SelectableField, Strategy, Subresource};
use crate::pod_template::default_text;

/// How long a client keeps its endpoint by default: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

/// Objects of kind `Service`.
#[derive(Debug)]
pub struct Services;

impl Strategy for Services {
    type Kind = Service;
    const SHORT_NAMES: &'static [&'static str] = &["svc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const NAME_RULE: NameRule = NameRule::Dns1035Label;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("spec.clusterIP", &["spec.clusterIP"]),
        SelectableField::text("spec.type", &["spec.type"]),
    ];

    fn default(service: &mut Service) {
        let Some(spec) = &mut service.spec else { return };
        default_text(&mut spec.session_affinity, "None");
        match spec.session_affinity.as_deref() {
            Some("ClientIP") => {
                let config = spec.session_affinity_config.get_or_insert_default();
                config.client_ip.get_or_insert_default().timeout_seconds.get_or_insert(AFFINITY_SECONDS);
            }
            _ => spec.session_affinity_config = None,
        }
        default_text(&mut spec.type_, "ClusterIP");
        for port in spec.ports.iter_mut().flatten() {
            default_text(&mut port.protocol, "TCP");
            let is_unset = match &port.target_port {
                None | Some(IntOrString::Int(0)) => true,
                Some(IntOrString::String(name)) => name.is_empty(),
                Some(IntOrString::Int(_)) => false,
            };
            if is_unset {
                port.target_port = Some(IntOrString::Int(port.port));
            }
        }
        let kind = spec.type_.as_deref().unwrap_or_default();
        let has_external_addresses =
            kind == "ClusterIP" && spec.external_ips.as_ref().is_some_and(|addresses| !addresses.is_empty());
        if matches!(kind, "NodePort" | "LoadBalancer") || has_external_addresses {
            default_text(&mut spec.external_traffic_policy, "Cluster");
        }
        if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
            spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
        }
        if kind == "LoadBalancer" {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
    }
}
