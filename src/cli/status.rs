//! `combo status`: what runs on this machine. It asks the kernel and the disk first, and a server
//! only if one answers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::{Args, ValueEnum};
use env::SystemClock;
use host::{Init, Installation, Role, ServiceSettings, ServiceState};
use kube_client::{HttpTransport, Kubeconfig, Method, Request, Transport as _};
use serde::Serialize;
use serde_json::Value;

const ANSWER_LIMIT: Duration = Duration::from_secs(3);
const SECONDS_IN_A_DAY: i64 = 86_400;

#[derive(Args)]
pub(crate) struct StatusCommand {
    /// Folder of a server that was not installed as a service
    #[arg(long, short = 'd', env = "COMBO_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How to print it
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// One service, or one data folder without a service.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    /// As the init system says.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_state: Option<String>,
    installed_version: &'static str,
    #[serde(flatten)]
    state: ServiceState,
    /// `None`: no server answered.
    api: Option<ApiState>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiState {
    version: String,
    node: String,
    /// `None`: the server knows no such node.
    node_ready: Option<bool>,
}

impl StatusCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut all = Vec::new();
        if self.data_dir.is_none() {
            for installation in host::installations()? {
                let settings = ServiceSettings::of(&installation);
                let api = runtime.block_on(ask(&settings));
                all.push(Status {
                    service_state: Some(ask_init(&installation)),
                    role: Some(installation.role),
                    service: Some(installation.service),
                    installed_version: env!("CARGO_PKG_VERSION"),
                    state: host::service_state(&settings.data_dir),
                    api,
                });
            }
        }
        if all.is_empty() {
            let mut settings = ServiceSettings::said(&[], &std::env::vars().collect());
            if let Some(data_dir) = self.data_dir {
                settings.data_dir = std::path::absolute(data_dir)?;
            }
            let api = runtime.block_on(ask(&settings));
            all.push(Status {
                service: None,
                role: None,
                service_state: None,
                installed_version: env!("CARGO_PKG_VERSION"),
                state: host::service_state(&settings.data_dir),
                api,
            });
        }
        runtime.shutdown_background();
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&all)?),
            Output::Text => {
                let texts: Vec<String> = all.iter().map(text).collect();
                print!("{}", texts.join("\n"));
            }
        }
        Ok(())
    }
}

fn ask_init(installation: &Installation) -> String {
    let service = installation.service.as_str();
    let asked = match installation.init {
        Init::Systemd => Command::new("systemctl")
            .args(["is-active", service])
            .output(),
        Init::Openrc => Command::new("rc-service")
            .args([service, "status"])
            .output(),
    };
    asked.map_or_else(
        |error| format!("unknown: {error}"),
        |done| String::from_utf8_lossy(&done.stdout).trim().to_owned(),
    )
}

/// What the server says about this node, as the administrator or as the node itself.
async fn ask(settings: &ServiceSettings) -> Option<ApiState> {
    let of_node = settings.data_dir.join("agent/kubelet.kubeconfig");
    for kubeconfig in [settings.kubeconfig.as_path(), &of_node] {
        if let Some(state) = ask_with(kubeconfig, &settings.node_name).await {
            return Some(state);
        }
    }
    None
}

async fn ask_with(kubeconfig: &Path, node: &str) -> Option<ApiState> {
    let config = Kubeconfig::read(kubeconfig).ok()?;
    let http = config.http_config("", "combo status").ok()?;
    let http = HttpTransport::new(&http)
        .ok()?
        .with_answer_limit(Some(ANSWER_LIMIT));
    let get = async |path: String| {
        let request = Request {
            method: Method::Get,
            path,
            content_type: "",
            body: Vec::new().into(),
        };
        let answer = http.call(request).await.ok()?;
        serde_json::from_slice::<Value>(&answer.body).ok()
    };
    let version = get("/version".to_owned()).await?;
    let object = get(format!("/api/v1/nodes/{node}")).await?;
    Some(ApiState {
        version: version["gitVersion"].as_str()?.to_owned(),
        node: node.to_owned(),
        node_ready: is_ready(&object),
    })
}

fn is_ready(node: &Value) -> Option<bool> {
    let conditions = node["status"]["conditions"].as_array()?;
    let ready = conditions
        .iter()
        .find(|condition| condition["type"] == "Ready")?;
    Some(ready["status"] == "True")
}

fn text(status: &Status) -> String {
    let mut lines = Vec::new();
    let mut say = |what: &str, value: String| lines.push(format!("{what:<12} {value}\n"));
    if let (Some(service), Some(state)) = (&status.service, &status.service_state) {
        let role = status.role.unwrap_or(Role::Server);
        say("service", format!("{service} ({role}): {state}"));
    } else {
        say("service", "none is installed".to_owned());
    }
    say("version", status.installed_version.to_owned());
    say("data", status.state.data_dir.display().to_string());
    say(
        "process",
        status
            .state
            .process
            .map_or_else(|| "none runs".to_owned(), |pid| format!("pid {pid}")),
    );
    say("pods", status.state.pods.to_string());
    say(
        "api",
        match &status.api {
            None => "no server answers".to_owned(),
            Some(api) => format!("Kubernetes {}", api.version),
        },
    );
    if let Some(api) = &status.api {
        let state = match api.node_ready {
            Some(true) => "Ready",
            Some(false) => "not Ready",
            None => "not known to the server",
        };
        say("node", format!("{}: {state}", api.node));
    }
    if let Some(certificate) = &status.state.certificate {
        let path = certificate.path.display();
        say(
            "certificate",
            match days_left(certificate.expires_unix) {
                days if days < 0 => format!("{path} expired {} days ago", -days),
                days => format!("{path} is the first to expire, in {days} days"),
            },
        );
    }
    lines.concat()
}

fn days_left(expires_unix: i64) -> i64 {
    let left = expires_unix.saturating_sub(SystemClock::shared().now().unix_seconds());
    left.div_euclid(SECONDS_IN_A_DAY)
}
