//! etcd's API of ours on a port of loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use env::{JoinHandle, Shutdown, ShutdownTrigger};
use etcd::{Door, Identity};
use kv::{Kv, MemoryKv};
use tokio::net::TcpListener;

/// One member; several may share a store.
pub(crate) struct Front {
    pub(crate) url: String,
    address: SocketAddr,
    kv: Arc<dyn Kv>,
    trigger: ShutdownTrigger,
    server: JoinHandle<()>,
}

impl Front {
    pub(crate) async fn start(kv: Arc<dyn Kv>) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), kv).await
    }

    async fn start_at(address: SocketAddr, kv: Arc<dyn Kv>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("http://{address}");
        let identity = Identity::derived(b"cluster", "member", vec![url.clone()]);
        let (trigger, shutdown) = Shutdown::new();
        let served = Arc::clone(&kv);
        let server = env::spawn(async move {
            etcd::serve(served, identity, listener, Door::Open, shutdown).await;
        });
        Self {
            url,
            address,
            kv,
            trigger,
            server,
        }
    }

    /// Ends it, and every connection to it.
    pub(crate) async fn stop(self) -> Stopped {
        self.trigger.trigger();
        self.server.await.expect("the server ends");
        Stopped {
            address: self.address,
            kv: self.kv,
        }
    }
}

/// A member that was, and can be again.
pub(crate) struct Stopped {
    address: SocketAddr,
    kv: Arc<dyn Kv>,
}

impl Stopped {
    pub(crate) async fn start(self) -> Front {
        Front::start_at(self.address, self.kv).await
    }
}

/// A store in memory behind one member.
pub(crate) async fn memory() -> (Arc<MemoryKv>, Front) {
    let kv = MemoryKv::new();
    let front = Front::start(Arc::clone(&kv) as Arc<dyn Kv>).await;
    (kv, front)
}
