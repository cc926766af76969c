//! Connecting and disconnecting sandboxes, and following what the folder of configurations says.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Shutdown;
use linux::Readable;
use linux::inotify::Watches;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::attachments::{Attachment, Attachments};
use crate::configuration::{self, Network, PluginConfiguration};
use crate::error::Error;
use crate::outcome;
use crate::plugin::{Call, Operation};

/// The link that a pod has, by Kubernetes' custom.
const LINK: &str = "eth0";
/// From here on plugins get the answer of ADD again when they take away.
const VERSION_OF_KEPT_ANSWERS: &str = "0.4.0";
/// From here on plugins say whether they could add.
const VERSION_OF_STATUS: &str = "1.1.0";

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Configurations: `*.conf`, `*.conflist` and `*.json`, of which the first by name counts.
    pub configurations: PathBuf,
    /// The plugins' programs.
    pub programs: PathBuf,
    /// What is kept about connected pods.
    pub attachments: PathBuf,
}

/// A sandbox to be connected.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox<'a> {
    pub pod_uid: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Its network namespace.
    pub netns: BorrowedFd<'a>,
}

/// The network that plugins make. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct CniNetwork(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folders: Folders,
    attachments: Attachments,
    /// Why no pod can be connected; none when one can.
    fault: watch::Sender<Option<String>>,
}

impl CniNetwork {
    /// Makes the folders of configurations and programs if they are missing, so that whoever fills them finds them.
    pub fn open(folders: Folders) -> Result<Self, Error> {
        for folder in [&folders.configurations, &folders.programs] {
            std::fs::create_dir_all(folder).map_err(|source| Error::System {
                doing: "make the folders of network plugins",
                source,
            })?;
        }
        let attachments = Attachments::open(folders.attachments.clone())?;
        let fault = configuration::first_of(&folders.configurations).err();
        let fault = watch::Sender::new(fault.map(|error| error.to_string()));
        Ok(Self(Arc::new(Shared {
            folders,
            attachments,
            fault,
        })))
    }

    /// Why no pod can be connected, as it changes; none when one can.
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.0.fault.subscribe()
    }

    /// Follows the folder of configurations until the end is asked for.
    pub async fn follow(&self, shutdown: Shutdown) -> Result<(), Error> {
        let watched = |source: linux::Error| Error::Kept {
            doing: "watch the network configurations".to_owned(),
            source,
        };
        let watches = Watches::new().map_err(watched)?;
        watches
            .watch_directory(&self.0.folders.configurations)
            .map_err(watched)?;
        let readable = Readable::new(&watches).map_err(watched)?;
        loop {
            self.look().await;
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                changed = readable.read_with(|| {
                    let changes = watches.take().unwrap_or_default();
                    (!changes.is_empty()).then_some(())
                }) => changed.map_err(watched)?,
            }
        }
    }

    /// Takes note of whether pods can be connected. Only plugins of 1.1 can say that they cannot.
    async fn look(&self) {
        let fault = match configuration::first_of(&self.0.folders.configurations) {
            Err(error) => Some(error.to_string()),
            Ok(network) if network.version == VERSION_OF_STATUS => {
                let call = self.call(Operation::Status, &[]);
                let asked = run_each(&network, call, None).await;
                asked.err().map(|error| with_cause(&error))
            }
            Ok(_) => None,
        };
        self.0.fault.send_if_modified(|present| {
            let is_news = *present != fault;
            if is_news {
                tracing::info!(fault, "network plugins");
                *present = fault;
            }
            is_news
        });
    }

    /// Connects a sandbox by all plugins in turn and returns its addresses, the primary one first. What an earlier sandbox
    /// of the pod had is taken away first. After a failure the plugins are asked to take away what they made.
    pub async fn attach(&self, sandbox: Sandbox<'_>) -> Result<Vec<IpAddr>, Error> {
        self.detach(sandbox.pod_uid).await?;
        let network = configuration::first_of(&self.0.folders.configurations)?;
        let mut attachment = Attachment {
            arguments: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
                sandbox.namespace, sandbox.name, sandbox.pod_uid, sandbox.pod_uid
            ),
            container_id: sandbox.pod_uid.to_owned(),
            network,
            programs: self.0.folders.programs.clone(),
            answer: None,
            addresses: Vec::new(),
        };
        // Before the first plugin runs: a crash in between leaves something that can be found and taken away.
        self.0.attachments.put(sandbox.pod_uid, &attachment)?;
        match self.add(&mut attachment, sandbox.netns).await {
            Ok(()) => {
                self.0.attachments.put(sandbox.pod_uid, &attachment)?;
                Ok(attachment.addresses)
            }
            Err(error) => {
                if let Err(second) = self.detach(sandbox.pod_uid).await {
                    tracing::warn!(error = %with_cause(&second), pod_uid = sandbox.pod_uid, "a pod that was not connected is not taken away either; it is tried again");
                }
                Err(error)
            }
        }
    }

    async fn add(&self, attachment: &mut Attachment, netns: BorrowedFd<'_>) -> Result<(), Error> {
        // A plugin opens it by this path while the descriptor is held here.
        let netns = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        let environment = environment(attachment, netns);
        let network = &attachment.network;
        let answer = run_each(network, self.call(Operation::Add, &environment), None).await?;
        let last = network.plugins.last().map_or("", |plugin| &plugin.kind);
        attachment.addresses = outcome::addresses(&answer, LINK).map_err(|why| Error::Answer {
            plugin: last.to_owned(),
            why,
        })?;
        attachment.answer = Some(answer);
        Ok(())
    }

    /// Takes away what plugins made for a pod; quiet when there is nothing. Until it succeeds, the pod counts as connected.
    pub async fn detach(&self, pod_uid: &str) -> Result<(), Error> {
        detach(&self.0.attachments, pod_uid).await
    }

    /// The pods that are connected, or may be in part, with the addresses that they have.
    pub fn existing(&self) -> Vec<(String, Vec<IpAddr>)> {
        let uids = self.0.attachments.uids().into_iter();
        let addresses = |pod_uid: &String| {
            let attachment = self.0.attachments.get(pod_uid).ok().flatten();
            attachment.map_or_else(Vec::new, |attachment| attachment.addresses)
        };
        uids.map(|pod_uid| {
            let addresses = addresses(&pod_uid);
            (pod_uid, addresses)
        })
        .collect()
    }

    fn call<'a>(
        &'a self,
        operation: Operation,
        environment: &'a [(&'static str, String)],
    ) -> Call<'a> {
        Call {
            operation,
            programs: &self.0.folders.programs,
            environment,
        }
    }
}

/// Asks the plugins to take away everything that is kept in this folder of attachments. Everything is tried; the first failure
/// is told.
pub async fn clean_up(attachments: &Path) -> Result<(), Error> {
    if !attachments.exists() {
        return Ok(());
    }
    let attachments = Attachments::open(attachments.to_owned())?;
    let mut first = Ok(());
    for pod_uid in attachments.uids() {
        first = first.and(detach(&attachments, &pod_uid).await);
    }
    first
}

async fn detach(attachments: &Attachments, pod_uid: &str) -> Result<(), Error> {
    let Some(attachment) = attachments.get(pod_uid)? else {
        return attachments.remove(pod_uid);
    };
    // No namespace: the sandbox's is about to go, and its links with it. Addresses and rules are given back by name.
    let environment = environment(&attachment, String::new());
    let call = Call {
        operation: Operation::Del,
        programs: &attachment.programs,
        environment: &environment,
    };
    run_each(&attachment.network, call, attachment.answer.as_ref()).await?;
    attachments.remove(pod_uid)
}

/// Runs an operation by all plugins: forward, each with the answer of the one before, or back, each with that of the last.
async fn run_each(
    network: &Network,
    call: Call<'_>,
    answer: Option<&Value>,
) -> Result<Value, Error> {
    let mut answer = answer.cloned().unwrap_or_default();
    if call.operation != Operation::Del {
        for plugin in &network.plugins {
            let input = input(network, plugin, &answer);
            answer = call.run(&plugin.kind, &input).await?;
        }
        return Ok(answer);
    }
    if network.version.as_str() < VERSION_OF_KEPT_ANSWERS {
        answer = Value::Null;
    }
    for plugin in network.plugins.iter().rev() {
        match call
            .run(&plugin.kind, &input(network, plugin, &answer))
            .await
        {
            // Whoever removed it gives nothing back any more, and the pod must go all the same.
            Err(error @ Error::Program { .. }) => {
                tracing::warn!(%error, "a plugin that is not there takes nothing away");
            }
            done => drop(done?),
        }
    }
    Ok(Value::Null)
}

/// "Execution configuration" of the specification.
fn input(network: &Network, plugin: &PluginConfiguration, previous: &Value) -> Value {
    let mut input: Map<String, Value> = plugin.rest.clone();
    for ours in ["capabilities", "cniVersions", "prevResult", "runtimeConfig"] {
        input.remove(ours);
    }
    input.insert("type".to_owned(), plugin.kind.clone().into());
    input.insert("name".to_owned(), network.name.clone().into());
    input.insert("cniVersion".to_owned(), network.version.clone().into());
    if !previous.is_null() {
        input.insert("prevResult".to_owned(), previous.clone());
    }
    Value::Object(input)
}

fn environment(attachment: &Attachment, netns: String) -> [(&'static str, String); 4] {
    [
        ("CNI_CONTAINERID", attachment.container_id.clone()),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", LINK.to_owned()),
        ("CNI_ARGS", attachment.arguments.clone()),
    ]
}

fn with_cause(error: &Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
