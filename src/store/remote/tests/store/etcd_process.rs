//! A real etcd, when the variable `COMBO_ETCD` names one (`tests/etcd.sh` prints its path).

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub(crate) struct Etcd {
    pub(crate) url: String,
    process: Child,
    _data: TempDir,
}

impl Etcd {
    /// `None` where there is none.
    pub(crate) fn start() -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("COMBO_ETCD")?);
        let data = tempfile::tempdir().expect("a folder");
        let [client, peer] = [(); 2].map(|()| format!("http://127.0.0.1:{}", free_port()));
        let process = Command::new(program)
            .arg("--data-dir")
            .arg(data.path())
            .args(["--unsafe-no-fsync", "--log-level=error", "--logger=zap"])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("etcd starts");
        Some(Self {
            url: client,
            process,
            _data: data,
        })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
