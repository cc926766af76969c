//! A store of ours behind etcd's API, without the rest of Combo and without TLS: for tests on this machine.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context;
use etcd::{Door, Identity};
use sqlite::{Options, SqliteKv};
use tokio::net::TcpListener;

/// Serves until whoever started this closes its input.
pub(crate) fn until_end_of_input(file: &Path, port: &str) -> anyhow::Result<()> {
    let port: u16 = port.parse().context("the port is a number")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (trigger, shutdown) = env::Shutdown::new();
    let options = Options {
        auto_compaction: None,
        ..Options::default()
    };
    let store = SqliteKv::open(file, options)?;
    let kv = std::sync::Arc::clone(&store);
    let server = runtime.spawn(async move {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await?;
        etcd::serve(kv, identity(port), listener, Door::Open, shutdown).await;
        anyhow::Ok(())
    });
    runtime.spawn_blocking(move || {
        let _closed = std::io::stdin().read_to_end(&mut Vec::new());
        trigger.trigger();
    });
    runtime.block_on(server)??;
    runtime.block_on(store.close())?;
    Ok(())
}

fn identity(port: u16) -> Identity {
    let url = format!("http://127.0.0.1:{port}");
    Identity::derived(url.as_bytes(), "default", vec![url.clone()])
}
