//! The servers that are compared: an etcd, and our front before a store on disk and before one in memory.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use etcd::{Door, Identity};
use etcd_testing::{Client, Etcd};
use kv::{Kv, MemoryKv};
use sqlite::{Options, SqliteKv};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::generate::STREAMS;
use crate::watches::Watches;

/// All of them; the first is etcd.
pub(crate) struct Servers {
    program: PathBuf,
    folder: TempDir,
    pub(crate) all: Vec<Server>,
}

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    /// Streams of watches, as far as they are open.
    pub(crate) watches: [Option<Watches>; STREAMS],
    process: Process,
}

enum Process {
    Etcd { child: Etcd },
    OnDisk(Front, Arc<SqliteKv>),
    InMemory { _front: Front },
}

/// Ends with its trigger.
struct Front {
    trigger: env::ShutdownTrigger,
    task: env::JoinHandle<()>,
}

impl Servers {
    /// Starts all of them empty, with their data in a new folder.
    pub(crate) async fn start(program: &Path, tmpfs: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::new_in(tmpfs).context("make a folder for the stores")?;
        let all = vec![
            start_etcd(program, folder.path()).await?,
            start_on_disk(folder.path()).await?,
            start_in_memory().await?,
        ];
        Ok(Self {
            program: program.to_owned(),
            folder,
            all,
        })
    }

    /// Stops those that have something on disk and starts them on it.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        for server in std::mem::take(&mut self.all) {
            let Server {
                name,
                client,
                process,
                ..
            } = server;
            let server = match process {
                Process::Etcd { child } => {
                    drop(child);
                    start_etcd(&self.program, self.folder.path()).await?
                }
                Process::OnDisk(front, store) => {
                    front.stop().await?;
                    store.close().await?;
                    drop(store);
                    start_on_disk(self.folder.path()).await?
                }
                process @ Process::InMemory { .. } => Server {
                    name,
                    client,
                    watches: Default::default(),
                    process,
                },
            };
            self.all.push(server);
        }
        Ok(())
    }
}

impl Server {
    /// A stream of watches, opened when it is first asked for.
    pub(crate) fn watches(&mut self, stream: usize) -> &mut Watches {
        self.watches[stream].get_or_insert_with(|| Watches::open(&self.client))
    }
}

impl Front {
    async fn stop(self) -> anyhow::Result<()> {
        self.trigger.trigger();
        self.task.await.context("end a server")
    }
}

async fn start_etcd(program: &Path, folder: &Path) -> anyhow::Result<Server> {
    let mut child = Etcd::start(program, &folder.join("etcd"))?;
    let client = child.ready().await?;
    Ok(Server {
        name: "etcd",
        client,
        watches: Default::default(),
        process: Process::Etcd { child },
    })
}

async fn start_on_disk(folder: &Path) -> anyhow::Result<Server> {
    let options = Options {
        auto_compaction: None,
        ..Options::default()
    };
    let store = SqliteKv::open(&folder.join("state.db"), options)?;
    let (front, client) = serve(Arc::clone(&store) as Arc<dyn Kv>).await?;
    Ok(Server {
        name: "our store on disk",
        client,
        watches: Default::default(),
        process: Process::OnDisk(front, store),
    })
}

async fn start_in_memory() -> anyhow::Result<Server> {
    let (front, client) = serve(MemoryKv::new()).await?;
    Ok(Server {
        name: "our store in memory",
        client,
        watches: Default::default(),
        process: Process::InMemory { _front: front },
    })
}

async fn serve(kv: Arc<dyn Kv>) -> anyhow::Result<(Front, Client)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let (trigger, shutdown) = env::Shutdown::new();
    let identity = Identity::derived(b"fuzz", "default", Vec::new());
    let task = env::spawn(etcd::serve(kv, identity, listener, Door::Open, shutdown));
    let client = Client::connect(port).await?;
    Ok((Front { trigger, task }, client))
}
