//! Variables that tell a container about Services, in docker's old form.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

/// The variables of `default/kubernetes` and, with service links, of the Services in the pod's namespace.
pub(crate) fn service_variables(
    services: &[Service],
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services
        .iter()
        .filter(|service| cluster_ip(service).is_some())
    {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let in_namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        if in_namespace == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        } else if in_namespace == namespace && links {
            chosen.insert(name, service);
        }
    }
    chosen
        .into_iter()
        .flat_map(|(name, service)| variables_of(name, service))
        .collect()
}

fn cluster_ip(service: &Service) -> Option<&str> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!address.is_empty() && address != "None").then_some(address)
}

fn variables_of(name: &str, service: &Service) -> Vec<(String, String)> {
    let prefix = variable_name(name);
    let address = cluster_ip(service).unwrap_or_default();
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let mut all = vec![(format!("{prefix}_SERVICE_HOST"), address.to_owned())];
    for (index, port) in ports.iter().enumerate() {
        let number = port.port.to_string();
        if index == 0 {
            all.push((format!("{prefix}_SERVICE_PORT"), number.clone()));
        }
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            all.push((
                format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name)),
                number.clone(),
            ));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!(
            "{}://{}",
            protocol.to_lowercase(),
            host_port(address, port.port)
        );
        if index == 0 {
            all.push((format!("{prefix}_PORT"), url.clone()));
        }
        let link = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        all.push((link.clone(), url));
        all.push((format!("{link}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{link}_PORT"), number));
        all.push((format!("{link}_ADDR"), address.to_owned()));
    }
    all
}

fn host_port(address: &str, port: i32) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_api_server_is_always_told_and_others_only_with_links() {
        let service = |name: &str, namespace: &str| -> Service {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 443, "name": "https"}]}}))
            .unwrap()
        };
        let services = [
            service("kubernetes", "default"),
            service("foo-bar", "a"),
            service("other", "b"),
        ];
        let without = service_variables(&services, "a", false);
        assert_eq!(without["KUBERNETES_SERVICE_HOST"], "10.0.0.1");
        assert!(!without.contains_key("FOO_BAR_SERVICE_HOST"));
        let with = service_variables(&services, "a", true);
        assert_eq!(with["FOO_BAR_SERVICE_PORT_HTTPS"], "443");
        assert_eq!(with["FOO_BAR_PORT_443_TCP"], "tcp://10.0.0.1:443");
        assert!(!with.contains_key("OTHER_SERVICE_HOST"));
    }
}
