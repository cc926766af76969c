//! An API server alone on the in-memory store, for kubectl and the diff tool: `cargo run -p rest --example serve PORT KUBECONFIG`.

#[path = "../tests/support/mod.rs"]
mod support;

use pki::Subject;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let port = arguments
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let kubeconfig = arguments.next().expect("where to write a kubeconfig");
    let cluster = support::Cluster::start(port).await;
    cluster.pki.write_kubeconfig(
        kubeconfig.as_ref(),
        cluster.port,
        &Subject::new("admin", &["system:masters"]),
    );
    println!("serving on port {}", cluster.port);
    std::future::pending::<()>().await;
}
