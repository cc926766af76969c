//! Services of `v1`.

use super::service_validation;
use apimachinery::FieldErrors;
use apimachinery::NameRule;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cells;
use crate::pod_template::default_text;
use crate::{Column, DeleteAnswer, Permission, SelectableField, Strategy, Subresource};

/// How long a client keeps its endpoint by default: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

/// Objects of kind `Service`.
#[derive(Debug)]
pub struct Services;

impl Strategy for Services {
    type Kind = Service;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Type", |service, _| {
            spec(service)
                .and_then(|spec| spec.type_.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::text("Cluster-IP", |service, _| {
            let first = spec(service).and_then(|spec| spec.cluster_ips.as_ref()?.first());
            cells::text_or(first.map(String::as_str), cells::NONE)
        }),
        Column::text("External-IP", |service, _| {
            external_addresses(service).into()
        }),
        Column::text("Port(s)", |service, _| {
            cells::text_or(Some(&ports(service)), cells::NONE)
        }),
        Column::age(),
        Column::wide_text("Selector", |service, _| {
            cells::labels(spec(service).and_then(|spec| spec.selector.as_ref()))
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["svc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const NAME_RULE: NameRule = NameRule::DnsLabel;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("spec.clusterIP", &["spec.clusterIP"]),
        SelectableField::text("spec.type", &["spec.type"]),
    ];

    fn default(service: &mut Service) {
        let Some(spec) = &mut service.spec else {
            return;
        };
        default_text(&mut spec.session_affinity, "None");
        match spec.session_affinity.as_deref() {
            Some("ClientIP") => {
                let config = spec.session_affinity_config.get_or_insert_default();
                config
                    .client_ip
                    .get_or_insert_default()
                    .timeout_seconds
                    .get_or_insert(AFFINITY_SECONDS);
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
        if kind == "LoadBalancer" {
            let balancer = service
                .status
                .as_mut()
                .and_then(|status| status.load_balancer.as_mut());
            for point in balancer
                .and_then(|balancer| balancer.ingress.as_mut())
                .into_iter()
                .flatten()
            {
                if point.ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
                    point.ip_mode.get_or_insert_with(|| "VIP".to_owned());
                }
            }
        }
        let has_external_addresses = kind == "ClusterIP"
            && spec
                .external_ips
                .as_ref()
                .is_some_and(|addresses| !addresses.is_empty());
        if matches!(kind, "NodePort" | "LoadBalancer") || has_external_addresses {
            default_text(&mut spec.external_traffic_policy, "Cluster");
        }
        if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
            spec.internal_traffic_policy
                .get_or_insert_with(|| "Cluster".to_owned());
        }
        if kind == "LoadBalancer" {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
    }

    fn validate_create(service: &Service) -> FieldErrors {
        service_validation::validate(service, None)
    }

    fn validate_update(service: &Service, old: &Service) -> FieldErrors {
        let mut errors = service_validation::validate_change(service, old);
        errors.extend(service_validation::validate(service, Some(old)));
        errors
    }

    fn validate_status_update(service: &Service, old: &Service) -> FieldErrors {
        service_validation::validate_status(service, old)
    }

    fn warnings(service: &Service) -> Vec<String> {
        service_validation::warnings(service)
    }
}

fn spec(service: &Service) -> Option<&ServiceSpec> {
    service.spec.as_ref()
}

fn external_addresses(service: &Service) -> String {
    let Some(spec) = &service.spec else {
        return cells::UNKNOWN.to_owned();
    };
    let external = spec.external_ips.clone().unwrap_or_default();
    match spec.type_.as_deref() {
        Some("ClusterIP" | "NodePort") if external.is_empty() => cells::NONE.to_owned(),
        Some("ClusterIP" | "NodePort") => external.join(","),
        Some("LoadBalancer") => {
            let status = service
                .status
                .as_ref()
                .and_then(|status| status.load_balancer.as_ref());
            let points = status
                .and_then(|status| status.ingress.as_deref())
                .unwrap_or_default();
            let balancer = cells::load_balancer(
                points
                    .iter()
                    .map(|point| (point.ip.as_deref(), point.hostname.as_deref())),
            );
            let all: Vec<String> = Some(balancer)
                .filter(|text| !text.is_empty())
                .into_iter()
                .chain(external)
                .collect();
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        Some("ExternalName") => spec.external_name.clone().unwrap_or_default(),
        _ => cells::UNKNOWN.to_owned(),
    }
}

fn ports(service: &Service) -> String {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let texts: Vec<String> = ports
        .iter()
        .map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or_default();
            match port.node_port.filter(|node_port| *node_port > 0) {
                Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
                None => format!("{}/{protocol}", port.port),
            }
        })
        .collect();
    texts.join(",")
}
