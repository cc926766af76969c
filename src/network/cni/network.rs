//! Connecting and disconnecting sandboxes, and following what the folder of configurations says.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Shutdown;
use linux::Readable;
use linux::inotify::Watches;
use serde_json::{Map, Value, json};
use tokio::sync::{RwLock, watch};

use crate::attachments::{Attachment, Attachments};
use crate::chain::Chain;
use crate::configuration::{self, Network};
use crate::error::Error;
use crate::outcome;
use crate::plugin::Call;

/// The link that a pod has, by Kubernetes' custom.
const LINK: &str = "eth0";

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
    /// What is known about it, by the names of the conventions: a plugin is told what its `capabilities` ask for.
    pub capabilities: &'a Map<String, Value>,
}

/// The network that plugins make. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct CniNetwork(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folders: Folders,
    attachments: Attachments,
    /// Whoever takes away what no pod has must be alone.
    sweeping: RwLock<()>,
    /// Why no pod can be connected; none when one can.
    fault: watch::Sender<Option<String>>,
}

impl CniNetwork {
    /// Makes the folders of configurations and programs if they are missing, so that whoever fills them finds them.
    pub fn open(folders: Folders) -> Result<Self, Error> {
        let attachments = Attachments::open(folders.attachments.clone())?;
        for folder in [&folders.configurations, &folders.programs] {
            attachments.make_folder(folder)?;
        }
        let fault = configuration::first_of(&folders.configurations).err();
        let fault = watch::Sender::new(fault.map(|error| error.to_string()));
        Ok(Self(Arc::new(Shared {
            folders,
            attachments,
            sweeping: RwLock::default(),
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
        let mut swept = None;
        loop {
            let network = self.look().await;
            if network.is_some() && network != swept {
                swept = network;
                self.sweep(swept.as_ref().expect("it was just looked at"))
                    .await;
            }
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

    /// Takes note of whether pods can be connected, and returns the network that connects them. Only plugins of 1.1 can say that
    /// they cannot.
    async fn look(&self) -> Option<Network> {
        let found = configuration::first_of(&self.0.folders.configurations);
        let able = match &found {
            Err(error) => Err(error.to_string()),
            Ok(network) => {
                let nobody = Map::new();
                let asked = self.chain(network, &[], &nobody).status().await;
                asked.map_err(|error| with_cause(&error))
            }
        };
        let fault = able.err();
        let network = found.ok().filter(|_network| fault.is_none());
        self.0.fault.send_if_modified(|present| {
            let is_news = *present != fault;
            if is_news {
                tracing::info!(fault, "network plugins");
                *present = fault;
            }
            is_news
        });
        network
    }

    /// Lets plugins take away what they hold for pods that are not connected any more, as after a loss of what is kept here.
    async fn sweep(&self, network: &Network) {
        let _alone = self.0.sweeping.write().await;
        let attachments = self.0.attachments.all().into_iter();
        let of_network = attachments.filter(|one| one.network.name == network.name);
        let valid = of_network.map(|one| json!({"containerID": one.container_id, "ifname": LINK}));
        let (valid, nobody) = (valid.collect(), Map::new());
        for error in self.chain(network, &[], &nobody).sweep(&valid).await {
            tracing::warn!(error = %with_cause(&error), "a network plugin did not take away what no pod has");
        }
    }

    /// Asks the plugins that connected a pod whether it still is.
    pub async fn check(&self, pod_uid: &str, netns: BorrowedFd<'_>) -> Result<(), Error> {
        let _no_sweeping = self.0.sweeping.read().await;
        let Some(attachment) = self.0.attachments.get(pod_uid)? else {
            return Ok(());
        };
        let environment = environment(&attachment, path_of(netns));
        let call = Call {
            programs: &attachment.programs,
            environment: &environment,
        };
        let chain = Chain {
            network: &attachment.network,
            call,
            capabilities: &attachment.capabilities,
        };
        match &attachment.answer {
            Some(answer) => chain.check(answer).await,
            None => Ok(()),
        }
    }

    /// Connects a sandbox by all plugins in turn and returns its addresses, the primary one first. What an earlier sandbox
    /// of the pod had is taken away first. After a failure the plugins are asked to take away what they made.
    pub async fn attach(&self, sandbox: Sandbox<'_>) -> Result<Vec<IpAddr>, Error> {
        self.detach(sandbox.pod_uid).await?;
        let _no_sweeping = self.0.sweeping.read().await;
        let network = configuration::first_of(&self.0.folders.configurations)?;
        let mut attachment = Attachment {
            arguments: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
                sandbox.namespace, sandbox.name, sandbox.pod_uid, sandbox.pod_uid
            ),
            container_id: sandbox.pod_uid.to_owned(),
            network,
            programs: self.0.folders.programs.clone(),
            capabilities: sandbox.capabilities.clone(),
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
                if let Err(second) = detach(&self.0.attachments, sandbox.pod_uid).await {
                    tracing::warn!(error = %with_cause(&second), pod_uid = sandbox.pod_uid, "a pod that was not connected is not taken away either; it is tried again");
                }
                Err(error)
            }
        }
    }

    async fn add(&self, attachment: &mut Attachment, netns: BorrowedFd<'_>) -> Result<(), Error> {
        let environment = environment(attachment, path_of(netns));
        let network = &attachment.network;
        let chain = self.chain(network, &environment, &attachment.capabilities);
        let answer = chain.add().await?;
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
        let _no_sweeping = self.0.sweeping.read().await;
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

    fn chain<'a>(
        &'a self,
        network: &'a Network,
        environment: &'a [(&'static str, String)],
        capabilities: &'a Map<String, Value>,
    ) -> Chain<'a> {
        let call = Call {
            programs: &self.0.folders.programs,
            environment,
        };
        Chain {
            network,
            call,
            capabilities,
        }
    }
}

/// A plugin opens a namespace by this path while the descriptor is held here.
fn path_of(netns: BorrowedFd<'_>) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd())
}

/// Asks the plugins to take away everything that is kept in this folder of attachments, and removes the folders that were made
/// for them and that nobody uses. Everything is tried; the first failure is told.
pub async fn clean_up(attachments: &Path) -> Result<(), Error> {
    if !attachments.exists() {
        return Ok(());
    }
    let attachments = Attachments::open(attachments.to_owned())?;
    let mut first = Ok(());
    for pod_uid in attachments.uids() {
        first = first.and(detach(&attachments, &pod_uid).await);
    }
    first.and(attachments.remove_made_folders())
}

async fn detach(attachments: &Attachments, pod_uid: &str) -> Result<(), Error> {
    let Some(attachment) = attachments.get(pod_uid)? else {
        return attachments.remove(pod_uid);
    };
    // No namespace: the sandbox's is about to go, and its links with it. Addresses and rules are given back by name.
    let environment = environment(&attachment, String::new());
    let call = Call {
        programs: &attachment.programs,
        environment: &environment,
    };
    let chain = Chain {
        network: &attachment.network,
        call,
        capabilities: &attachment.capabilities,
    };
    chain.delete(attachment.answer.as_ref()).await?;
    attachments.remove(pod_uid)
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
