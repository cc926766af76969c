//! Between pods of two nodes, beside one cable between two network namespaces: the same bytes, in turn.

use std::net::SocketAddr;
use std::time::Duration;

use linux::NetworkNamespace;

use super::Bench;
use super::machines::{Cluster, Machine, SERVER, cabled};
use super::pods::Pod;
use super::report::{Report, median};
use super::traffic::{Sink, round_trips, throughput};

const OVERLAYS: [&str; 2] = ["vxlan", "host-gw"];
const ROUNDS: usize = 7;
const STREAM_TIME: Duration = Duration::from_secs(1);
const ROUND_TRIPS: usize = 3000;
const FAR: &str = "far";

/// What was measured over one way.
#[derive(Default)]
struct Figures {
    /// Megabits a second.
    throughput: Vec<f64>,
    /// Microseconds.
    round_trips: Vec<f64>,
}

/// From one network to an address.
struct Way<'a> {
    name: &'static str,
    from: &'a NetworkNamespace,
    to: SocketAddr,
}

impl Way<'_> {
    fn measure(&self, figures: &mut Figures) -> anyhow::Result<()> {
        let rate = throughput(self.from, self.to, STREAM_TIME)?;
        figures.throughput.push(rate);
        let times = round_trips(self.from, self.to, ROUND_TRIPS)?;
        figures.round_trips.push(median(times));
        Ok(())
    }
}

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    for overlay in OVERLAYS {
        across_nodes(bench, overlay, report).await?;
    }
    Ok(())
}

async fn across_nodes(bench: &Bench, overlay: &str, report: &mut Report) -> anyhow::Result<()> {
    let flags = ["--flannel-backend", overlay];
    let mut cluster = Cluster::start(bench, overlay, &flags).await?;
    let agent = cluster.join(bench, FAR).await?;
    let near = Pod::start(&cluster.connection, "near", SERVER).await?;
    let far = Pod::start(&cluster.connection, FAR, FAR).await?;
    let cable = cabled()?;
    let ways = [
        Way {
            name: "one veth",
            from: &cable[0].namespace,
            to: sink(&cable[1])?,
        },
        Way {
            name: "between the nodes",
            from: &cluster.server.machine.namespace,
            to: sink(&agent.machine)?,
        },
        Way {
            name: "between the pods",
            from: &near.network,
            to: Sink::in_namespace(&far.network)?.at(&far.address)?,
        },
    ];
    let mut figures = [(); 3].map(|()| Figures::default());
    for _ in 0..ROUNDS {
        for (way, figures) in ways.iter().zip(&mut figures) {
            way.measure(figures)?;
        }
    }
    for (way, figures) in ways.iter().zip(&figures) {
        report.say(&format!(
            "{overlay}, {}: Mbit/s {:.0?}, round trip µs {:.1?}",
            way.name, figures.throughput, figures.round_trips
        ));
    }
    let [cable, nodes, pods] = figures;
    both(&format!("nodes of {overlay}"), &nodes, &cable, report);
    both(&format!("pods over {overlay}"), &pods, &cable, report);
    Ok(())
}

fn both(what: &str, measured: &Figures, cable: &Figures, report: &mut Report) {
    let middle = |values: &[f64]| median(values.to_vec());
    report.beside(
        &format!("{what}: TCP throughput, beside one veth"),
        middle(&measured.throughput),
        middle(&cable.throughput),
        "Mbit/s",
    );
    report.beside(
        &format!("{what}: there and back, beside one veth"),
        middle(&measured.round_trips),
        middle(&cable.round_trips),
        "µs",
    );
}

fn sink(machine: &Machine) -> anyhow::Result<SocketAddr> {
    Sink::in_namespace(&machine.namespace)?.at(&machine.address)
}
