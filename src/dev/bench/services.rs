//! What a Service costs who connects to it, beside its pod's own address, with few Services and with many.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::bail;
use linux::NetworkNamespace;
use serde_json::{Value, json};

use super::Bench;
use super::load::Connection;
use super::machines::{Cluster, SERVER};
use super::pods::Pod;
use super::report::{Report, median};
use super::traffic::{Sink, connects, connects_once};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PORT: u16 = 80;
const FEW: usize = 10;
const MANY: usize = 5000;
const CREATORS: usize = 8;
const CONNECTS: usize = 3000;
/// Until every Service answers.
const PROGRAMMED_MAX: Duration = Duration::from_secs(120);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start(bench, "services", &[]).await?;
    let client = Pod::start(&cluster.connection, "client", SERVER).await?;
    let backend = Pod::start(&cluster.connection, "backend", SERVER).await?;
    let sink = Sink::in_namespace(&backend.network)?;
    let direct = sink.at(&backend.address)?;
    let mut made = 0;
    for wanted in [FEW, MANY] {
        let begun = Instant::now();
        create(&cluster.connection, made..wanted, sink).await?;
        let created = begun.elapsed();
        let addresses = addresses(&cluster.connection).await?;
        all_answer(&client.network, &addresses).await?;
        let answered = begun.elapsed();
        report.say(&format!(
            "{} Services created in {:.2} s, all answer after {:.2} s",
            wanted - made,
            created.as_secs_f64(),
            answered.as_secs_f64()
        ));
        if wanted == MANY {
            let seconds = answered.as_secs_f64();
            report.note(
                "from creating 4,990 Services until all answer",
                seconds,
                "s",
            );
            let rest = answered.saturating_sub(created).as_secs_f64();
            report.note("… of it after the last was created", rest, "s");
        }
        made = wanted;
        let one = addresses[addresses.len() / 2];
        let [direct, service] = connects(&client.network, [direct, one], CONNECTS)?;
        report.beside(
            &format!("connect to a ClusterIP, {wanted} Services, beside to the pod"),
            median(service),
            median(direct),
            "µs",
        );
    }
    Ok(())
}

async fn create(
    connection: &Connection,
    numbers: std::ops::Range<usize>,
    sink: Sink,
) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for creator in 0..CREATORS {
        let (connection, numbers) = (connection.clone(), numbers.clone());
        tasks.spawn(async move {
            for number in numbers.skip(creator).step_by(CREATORS) {
                connection.create(SERVICES, &service(number, sink)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn service(number: usize, sink: Sink) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("many-{number}")},
        "spec": {
            "selector": {"app": "backend"}, "ports": [{"port": PORT, "targetPort": sink.port}],
        },
    })
}

/// Where the Services are.
async fn addresses(connection: &Connection) -> anyhow::Result<Vec<SocketAddr>> {
    let list = connection.get_json(SERVICES).await?;
    let services = list["items"].as_array().into_iter().flatten();
    let own = services.filter(|service| service["spec"]["selector"]["app"] == "backend");
    own.map(|service| {
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        Ok(SocketAddr::new(address.parse::<IpAddr>()?, PORT))
    })
    .collect()
}

/// Waits for each of them in turn: once the last has answered, all have.
async fn all_answer(from: &NetworkNamespace, addresses: &[SocketAddr]) -> anyhow::Result<()> {
    let deadline = Instant::now() + PROGRAMMED_MAX;
    for &address in addresses {
        while !connects_once(from, address) {
            if Instant::now() > deadline {
                bail!("{address} does not answer in {PROGRAMMED_MAX:?}");
            }
            env::sleep(LOOK_AGAIN_AFTER).await;
        }
    }
    Ok(())
}
