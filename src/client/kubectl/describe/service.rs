//! Services, with the addresses behind each port.

use serde_json::Value;

use super::Subject;
use super::text::{Text, list, or_none, pairs, text, text_or_none};

/// Endpoints shown of one port.
const ENDPOINTS_SHOWN: usize = 3;

pub(super) fn describe(subject: &Subject, out: &mut Text) {
    let (object, spec) = (&subject.object, &subject.object["spec"]);
    out.head(object);
    out.field(
        0,
        "Selector",
        or_none(pairs(&spec["selector"], "=").join(",")),
    );
    out.field(0, "Type", text(&spec["type"]));
    out.field_if(0, "IP Family Policy", text(&spec["ipFamilyPolicy"]));
    out.field_if(0, "IP Families", joined(&spec["ipFamilies"]));
    out.field(0, "IP", text(&spec["clusterIP"]));
    out.field_if(0, "IPs", joined(&spec["clusterIPs"]));
    out.field_if(0, "External IPs", joined(&spec["externalIPs"]));
    out.field_if(0, "Desired LoadBalancer IP", text(&spec["loadBalancerIP"]));
    out.field_if(0, "External Name", text(&spec["externalName"]));
    let ingress = list(&object["status"]["loadBalancer"]["ingress"]);
    let ingress: Vec<String> = ingress
        .iter()
        .map(|at| text(&at["ip"]) + &text(&at["hostname"]))
        .collect();
    out.field_if(0, "LoadBalancer Ingress", ingress.join(", "));
    for port in list(&spec["ports"]) {
        describe_port(subject, port, out);
    }
    out.field(0, "Session Affinity", text(&spec["sessionAffinity"]));
    out.field_if(
        0,
        "External Traffic Policy",
        text(&spec["externalTrafficPolicy"]),
    );
    out.field_if(
        0,
        "Internal Traffic Policy",
        text(&spec["internalTrafficPolicy"]),
    );
}

fn describe_port(subject: &Subject, port: &Value, out: &mut Text) {
    let name = match text(&port["name"]) {
        empty if empty.is_empty() => "<unset>".to_owned(),
        name => name,
    };
    let protocol = text(&port["protocol"]);
    out.field(
        0,
        "Port",
        format!("{name}  {}/{protocol}", text(&port["port"])),
    );
    out.field(
        0,
        "TargetPort",
        format!("{}/{protocol}", text_or_none(&port["targetPort"])),
    );
    if port["nodePort"]
        .as_i64()
        .is_some_and(|node_port| node_port != 0)
    {
        out.field(
            0,
            "NodePort",
            format!("{name}  {}/{protocol}", text(&port["nodePort"])),
        );
    }
    out.field(0, "Endpoints", endpoints(subject, &text(&port["name"])));
}

fn endpoints(subject: &Subject, port_name: &str) -> String {
    let mut all = Vec::new();
    for slice in &subject.related {
        let slice = slice.clone().into_value();
        let port = list(&slice["ports"])
            .iter()
            .find(|port| text(&port["name"]) == port_name);
        let Some(port) = port.map(|port| text(&port["port"])) else {
            continue;
        };
        for endpoint in list(&slice["endpoints"])
            .iter()
            .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        {
            all.extend(
                list(&endpoint["addresses"])
                    .iter()
                    .map(|address| match text(address) {
                        six if six.contains(':') => format!("[{six}]:{port}"),
                        four => format!("{four}:{port}"),
                    }),
            );
        }
    }
    let rest = all.len().saturating_sub(ENDPOINTS_SHOWN);
    let shown = all[..all.len().min(ENDPOINTS_SHOWN)].join(",");
    if all.is_empty() {
        return or_none(String::new());
    }
    if rest > 0 {
        format!("{shown} + {rest} more...")
    } else {
        shown
    }
}

fn joined(value: &Value) -> String {
    list(value).iter().map(text).collect::<Vec<_>>().join(",")
}
