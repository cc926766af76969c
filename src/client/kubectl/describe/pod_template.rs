//! Containers and volumes, of a pod and of the template of one.

use serde_json::Value;

use super::text::{Text, list, or_none, text};
use crate::times::long;

/// The containers of a spec; with a status the ones that run.
pub(super) fn containers(
    title: &str,
    specs: &Value,
    statuses: Option<&Value>,
    depth: usize,
    out: &mut Text,
) {
    let specs = list(specs);
    if specs.is_empty() {
        return;
    }
    out.line(depth, format!("{title}:"));
    for spec in specs {
        let status = statuses.and_then(|all| {
            list(all)
                .iter()
                .find(|status| status["name"] == spec["name"])
        });
        container(spec, statuses.is_some(), status, out);
    }
}

fn container(spec: &Value, is_pod: bool, status: Option<&Value>, out: &mut Text) {
    // Fields stand at one place in pods and templates; the name before them does not.
    let inset = if is_pod { "" } else { " " };
    out.line(1, format!("{inset}{}:", text(&spec["name"])));
    let depth = 2;
    if let Some(status) = status {
        out.field(depth, "Container ID", text(&status["containerID"]));
    }
    out.field(depth, "Image", text(&spec["image"]));
    if let Some(status) = status {
        out.field(depth, "Image ID", text(&status["imageID"]));
    }
    ports(spec, depth, out);
    for (name, field) in [("Command", "command"), ("Args", "args")] {
        let words: Vec<String> = list(&spec[field])
            .iter()
            .flat_map(|word| lines(&text(word)))
            .collect();
        out.block(depth, name, &words);
    }
    if let Some(status) = status {
        state("State", &status["state"], depth, out);
        if status["lastState"]
            .as_object()
            .is_some_and(|last| !last.is_empty())
        {
            state("Last State", &status["lastState"], depth, out);
        }
        out.field(depth, "Ready", title_case(&text(&status["ready"])));
        out.field(depth, "Restart Count", text(&status["restartCount"]));
    }
    for (name, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let amounts = spec["resources"][field].as_object().into_iter().flatten();
        let lines: Vec<String> = amounts
            .map(|(key, value)| format!("{key}:\t{}", text(value)))
            .collect();
        out.block(depth, name, &lines);
    }
    for (name, field) in [
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ] {
        if spec[field].is_object() {
            out.field(depth, name, probe(&spec[field]));
        }
    }
    environment(spec, depth, out);
    mounts(spec, depth, out);
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn ports(spec: &Value, depth: usize, out: &mut Text) {
    let ports = list(&spec["ports"]);
    let of = |field: &str| -> String {
        let each = ports.iter().map(|port| {
            let protocol = or_none(text(&port["protocol"])).replace("<none>", "TCP");
            let name = text(&port["name"]);
            let name = if name.is_empty() {
                name
            } else {
                format!(" ({name})")
            };
            format!("{}/{protocol}{name}", port[field].as_i64().unwrap_or(0))
        });
        or_none(each.collect::<Vec<_>>().join(", "))
    };
    let plural = if ports.len() > 1 { "s" } else { "" };
    out.field(depth, &format!("Port{plural}"), of("containerPort"));
    out.field(depth, &format!("Host Port{plural}"), of("hostPort"));
}

fn state(name: &str, state: &Value, depth: usize, out: &mut Text) {
    if state["running"].is_object() {
        out.field(depth, name, "Running");
        out.field(
            depth + 1,
            "Started",
            long(&text(&state["running"]["startedAt"])),
        );
    } else if state["terminated"].is_object() {
        let ended = &state["terminated"];
        out.field(depth, name, "Terminated");
        out.field_if(depth + 1, "Reason", text(&ended["reason"]));
        out.field_if(depth + 1, "Message", text(&ended["message"]));
        out.field(depth + 1, "Exit Code", text(&ended["exitCode"]));
        let signal = text(&ended["signal"]);
        out.field_if(
            depth + 1,
            "Signal",
            if signal == "0" { String::new() } else { signal },
        );
        out.field(depth + 1, "Started", long(&text(&ended["startedAt"])));
        out.field(depth + 1, "Finished", long(&text(&ended["finishedAt"])));
    } else {
        out.field(depth, name, "Waiting");
        out.field_if(depth + 1, "Reason", text(&state["waiting"]["reason"]));
    }
}

/// What a probe does, and when.
fn probe(probe: &Value) -> String {
    let number = |field: &str, default: i64| probe[field].as_i64().unwrap_or(default);
    let times = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    );
    let what = if probe["exec"].is_object() {
        let words: Vec<String> = list(&probe["exec"]["command"]).iter().map(text).collect();
        format!("exec [{}]", words.join(" "))
    } else if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let scheme = or_none(text(&get["scheme"]))
            .replace("<none>", "HTTP")
            .to_lowercase();
        format!(
            "http-get {scheme}://{}:{}{}",
            text(&get["host"]),
            text(&get["port"]),
            text(&get["path"])
        )
    } else if probe["tcpSocket"].is_object() {
        format!(
            "tcp-socket {}:{}",
            text(&probe["tcpSocket"]["host"]),
            text(&probe["tcpSocket"]["port"])
        )
    } else if probe["grpc"].is_object() {
        format!(
            "grpc <pod>:{} {}",
            text(&probe["grpc"]["port"]),
            text(&probe["grpc"]["service"])
        )
    } else {
        "unknown".to_owned()
    };
    format!("{what} {times}")
}

fn environment(spec: &Value, depth: usize, out: &mut Text) {
    let sources: Vec<String> = list(&spec["envFrom"])
        .iter()
        .map(environment_source)
        .collect();
    out.block(depth, "Environment Variables from", &sources);
    let variables = list(&spec["env"]);
    if variables.is_empty() {
        return out.field(depth, "Environment", "<none>");
    }
    out.line(depth, "Environment:");
    for variable in variables {
        out.field(
            depth + 1,
            &text(&variable["name"]),
            variable_value(variable),
        );
    }
}

fn environment_source(source: &Value) -> String {
    let prefix = match text(&source["prefix"]) {
        empty if empty.is_empty() => String::new(),
        prefix => format!(" with prefix '{prefix}'"),
    };
    let (kind, reference) = match source["configMapRef"].is_object() {
        true => ("ConfigMap", &source["configMapRef"]),
        false => ("Secret", &source["secretRef"]),
    };
    format!(
        "{}\t{kind}{prefix}\tOptional: {}",
        text(&reference["name"]),
        reference["optional"] == true
    )
}

fn variable_value(variable: &Value) -> String {
    let from = &variable["valueFrom"];
    if from["fieldRef"].is_object() {
        let field = &from["fieldRef"];
        let version = or_none(text(&field["apiVersion"])).replace("<none>", "v1");
        return format!(" ({version}:{})", text(&field["fieldPath"]));
    }
    if from["resourceFieldRef"].is_object() {
        let field = &from["resourceFieldRef"];
        return format!(
            "{} ({})",
            text(&field["containerName"]),
            text(&field["resource"])
        );
    }
    for (field, kind) in [
        ("secretKeyRef", "secret"),
        ("configMapKeyRef", "config map"),
    ] {
        if from[field].is_object() {
            return format!(
                "<set to the key '{}' in {kind} '{}'>\tOptional: {}",
                text(&from[field]["key"]),
                text(&from[field]["name"]),
                from[field]["optional"] == true
            );
        }
    }
    text(&variable["value"]).replace('\n', "\\n")
}

fn mounts(spec: &Value, depth: usize, out: &mut Text) {
    let mounts = list(&spec["volumeMounts"]);
    if mounts.is_empty() {
        return out.field(depth, "Mounts", "<none>");
    }
    out.line(depth, "Mounts:");
    let mut lines: Vec<String> = mounts
        .iter()
        .map(|mount| {
            let mut flags = vec![
                if mount["readOnly"] == true {
                    "ro"
                } else {
                    "rw"
                }
                .to_owned(),
            ];
            let path = text(&mount["subPath"]);
            if !path.is_empty() {
                flags.push(format!("path={path:?}"));
            }
            format!(
                "{} from {} ({})",
                text(&mount["mountPath"]),
                text(&mount["name"]),
                flags.join(",")
            )
        })
        .collect();
    lines.sort();
    for line in lines {
        out.line(depth + 1, line);
    }
}

pub(super) fn volumes(volumes: &Value, depth: usize, out: &mut Text) {
    let volumes = list(volumes);
    if volumes.is_empty() {
        return;
    }
    out.line(depth, "Volumes:");
    for volume in volumes {
        out.line(depth + 1, format!("{}:", text(&volume["name"])));
        self::volume(volume, depth + 2, out);
    }
}

/// The kinds of volume by their field: what people call them, and what of them matters.
const VOLUMES: [(&str, &str, &[&str]); 10] = [
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &["medium", "sizeLimit"],
    ),
    (
        "hostPath",
        "HostPath (bare host directory volume)",
        &["path", "type"],
    ),
    (
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        &["name", "optional"],
    ),
    (
        "secret",
        "Secret (a volume populated by a Secret)",
        &["secretName", "optional"],
    ),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &["claimName", "readOnly"],
    ),
    (
        "downwardAPI",
        "DownwardAPI (a volume populated by information about the pod)",
        &[],
    ),
    (
        "projected",
        "Projected (a volume that contains injected data from multiple sources)",
        &[],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &["server", "path", "readOnly"],
    ),
    (
        "csi",
        "CSI (a Container Storage Interface (CSI) volume source)",
        &["driver", "fsType", "readOnly"],
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        &["reference", "pullPolicy"],
    ),
];

fn volume(volume: &Value, depth: usize, out: &mut Text) {
    let found = VOLUMES
        .iter()
        .find(|(field, ..)| volume[*field].is_object());
    let Some((field, name, members)) = found else {
        return out.line(depth, "<unknown>");
    };
    out.field(depth, "Type", name);
    for member in *members {
        let value = &volume[*field][*member];
        let label = match *member {
            "name" | "secretName" | "claimName" => member_name(member).to_owned(),
            other => other[..1].to_uppercase() + &other[1..],
        };
        let value = match (value, *member) {
            (Value::Null, "optional" | "readOnly") => "false".to_owned(),
            (Value::Null, "sizeLimit") => "<unset>".to_owned(),
            (value, _) => text(value),
        };
        out.field(depth, &label, value);
    }
    for source in list(&volume["projected"]["sources"]) {
        projection(source, depth, out);
    }
}

fn member_name(member: &str) -> &'static str {
    match member {
        "secretName" => "SecretName",
        "claimName" => "ClaimName",
        _ => "Name",
    }
}

fn projection(source: &Value, depth: usize, out: &mut Text) {
    let token = &source["serviceAccountToken"];
    if token.is_object() {
        out.field(
            depth,
            "TokenExpirationSeconds",
            text(&token["expirationSeconds"]),
        );
    }
    for (field, name) in [("configMap", "ConfigMapName"), ("secret", "SecretName")] {
        if source[field].is_object() {
            out.field(depth, name, text(&source[field]["name"]));
            out.field(
                depth,
                "Optional",
                (source[field]["optional"] == true).to_string(),
            );
        }
    }
    if source["downwardAPI"].is_object() {
        out.field(depth, "DownwardAPI", "true");
    }
}

fn title_case(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

/// The template of a workload's pods.
pub(super) fn template(template: &Value, out: &mut Text) {
    out.line(0, "Pod Template:");
    out.map(1, "Labels", &template["metadata"]["labels"], "=");
    if template["metadata"]["annotations"]
        .as_object()
        .is_some_and(|all| !all.is_empty())
    {
        out.map(1, "Annotations", &template["metadata"]["annotations"], ": ");
    }
    let spec = &template["spec"];
    out.field_if(1, "Service Account", text(&spec["serviceAccountName"]));
    containers("Init Containers", &spec["initContainers"], None, 1, out);
    containers("Containers", &spec["containers"], None, 1, out);
    if list(&spec["volumes"]).is_empty() {
        out.field(1, "Volumes", "<none>");
    } else {
        volumes(&spec["volumes"], 1, out);
    }
    out.field_if(1, "Priority Class Name", text(&spec["priorityClassName"]));
    placement(spec, 1, out);
}

/// Where pods may run.
pub(super) fn placement(spec: &Value, depth: usize, out: &mut Text) {
    out.map(depth, "Node-Selectors", &spec["nodeSelector"], "=");
    let tolerations: Vec<String> = list(&spec["tolerations"]).iter().map(toleration).collect();
    if tolerations.is_empty() {
        return out.field(depth, "Tolerations", "<none>");
    }
    for (index, toleration) in tolerations.iter().enumerate() {
        match index {
            0 => out.field(depth, "Tolerations", toleration),
            _ => out.line(depth, format!("\t{toleration}")),
        }
    }
}

fn toleration(toleration: &Value) -> String {
    let mut line = text(&toleration["key"]);
    let value = text(&toleration["value"]);
    if !value.is_empty() {
        line = format!("{line}={value}");
    }
    let effect = text(&toleration["effect"]);
    if !effect.is_empty() {
        line = format!("{line}:{effect}");
    }
    if toleration["operator"] == "Exists" && value.is_empty() {
        let separator = if line.is_empty() { "" } else { " " };
        line = format!("{line}{separator}op=Exists");
    }
    if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
        line = format!("{line} for {seconds}s");
    }
    line
}
