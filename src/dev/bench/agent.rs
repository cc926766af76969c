//! An agent: how soon it is a node, what it takes, and what it writes while nothing happens.

use std::time::{Duration, Instant};

use super::Bench;
use super::load::Connection;
use super::machines::{Cluster, Process};
use super::pods::{self, PODS};
use super::process;
use super::report::{AtMost, Report, median, megabytes};
use super::wait::{START_MAX, is_ready, until};

const JOINS: usize = 5;
const COUNT: usize = 30;
const MINUTES_PER_HOUR: f64 = 60.0;

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(bench, "agent", &[]).await?;
    joins(bench, &mut cluster, report).await?;
    let agent = cluster.join(bench, "idle").await?;
    report.say(&format!("idle for {} s", bench.idle_seconds));
    env::sleep(Duration::from_secs(bench.idle_seconds)).await;
    memory(&agent, "agent, idle RSS", 25.0, report)?;
    start_pods(&cluster.connection, &agent.name).await?;
    writes(bench, &cluster, &agent, report).await?;
    memory(&agent, "agent, idle RSS with 30 pods", 40.0, report)?;
    shims(&agent, report)
}

/// From the start of an agent on a machine that was no node until the node is Ready, each a new one.
async fn joins(bench: &Bench, cluster: &mut Cluster, report: &mut Report) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for number in 0..JOINS {
        let name = format!("join-{number}");
        let prepared = cluster.prepare(bench, &name)?;
        let begun = Instant::now();
        let agent = prepared.start(bench)?;
        cluster.node_ready(&name).await?;
        times.push(begun.elapsed().as_secs_f64());
        drop(agent);
        // What is found out about a node that is gone would be written in the time that is to be idle.
        let path = format!("/api/v1/nodes/{name}");
        cluster.connection.delete(&path).await?;
    }
    report.say(&format!("exec → node Ready, s: {times:.2?}"));
    report.figure(
        "agent, exec → joined and Ready, median of 5",
        median(times),
        "s",
        AtMost(3.0),
    );
    Ok(())
}

fn memory(agent: &Process, what: &str, target: f64, report: &mut Report) -> anyhow::Result<()> {
    let resident = megabytes(process::resident(agent.pid())?);
    report.figure(what, resident, "MB", AtMost(target));
    report.note(
        "… of it not of files",
        megabytes(process::resident_anonymous(agent.pid())?),
        "MB",
    );
    Ok(())
}

async fn start_pods(connection: &Connection, node: &str) -> anyhow::Result<()> {
    for number in 0..COUNT {
        pods::create(connection, &format!("idle-{number}"), node).await?;
    }
    until("the pods are Ready", START_MAX, || async {
        let pods = connection.get_json(PODS).await.unwrap_or_default();
        let pods = pods["items"].as_array();
        pods.is_some_and(|pods| pods.len() == COUNT && pods.iter().all(is_ready))
    })
    .await?;
    Ok(())
}

/// What a server and an agent have sent to their disks, with the shims of the agent's pods.
struct Written {
    server: u64,
    agent: u64,
    shims: u64,
    revision: u64,
}

impl Written {
    async fn so_far(cluster: &Cluster, agent: &Process) -> anyhow::Result<Self> {
        let mut shims = 0;
        for shim in process::shims(&agent.data_dir)? {
            shims += process::written(shim)?;
        }
        Ok(Self {
            server: process::written(cluster.server.pid())?,
            agent: process::written(agent.pid())?,
            shims,
            revision: revision(&cluster.connection).await?,
        })
    }
}

/// The number of changes that the store has taken.
async fn revision(connection: &Connection) -> anyhow::Result<u64> {
    let list = connection.get_json("/api/v1/nodes?limit=1").await?;
    let revision = list["metadata"]["resourceVersion"].as_str();
    Ok(revision.unwrap_or_default().parse()?)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "minutes and counts of changes are small"
)]
async fn writes(
    bench: &Bench,
    cluster: &Cluster,
    agent: &Process,
    report: &mut Report,
) -> anyhow::Result<()> {
    // What the start of the pods left to be written is no part of an idle hour.
    env::sleep(Duration::from_secs(bench.idle_seconds)).await;
    let before = Written::so_far(cluster, agent).await?;
    env::sleep(Duration::from_secs(bench.idle_minutes * 60)).await;
    let after = Written::so_far(cluster, agent).await?;
    let hours = bench.idle_minutes as f64 / MINUTES_PER_HOUR;
    let server = after.server - before.server;
    // A shim that ended in between takes its count along.
    let shims = after.shims.saturating_sub(before.shims);
    let agent = after.agent - before.agent;
    let changes = (after.revision - before.revision) as f64;
    report.say(&format!(
        "in {} minutes with {COUNT} pods, taken as a part of an hour: the server wrote {server} bytes, the agent {agent}, its shims {shims}; the store took {changes} changes",
        bench.idle_minutes
    ));
    for (what, bytes) in [
        ("server, bytes written in an idle hour", server),
        (
            "agent with its shims, bytes written in an idle hour",
            agent + shims,
        ),
    ] {
        report.figure(what, megabytes(bytes) / hours, "MB", AtMost(1.0));
    }
    report.note("… changes in the store", changes / hours, "/h");
    Ok(())
}

fn shims(agent: &Process, report: &mut Report) -> anyhow::Result<()> {
    let (mut private, mut proportional) = (Vec::new(), Vec::new());
    for shim in process::shims(&agent.data_dir)? {
        private.push(megabytes(process::private(shim)?));
        proportional.push(megabytes(process::proportional(shim)?));
    }
    report.say(&format!(
        "{} shims, private MB: {private:.2?}, PSS MB: {proportional:.2?}",
        private.len()
    ));
    let largest = |sizes: &[f64]| sizes.iter().copied().fold(0.0, f64::max);
    report.figure(
        "largest of 30 shims, private memory",
        largest(&private),
        "MB",
        AtMost(1.0),
    );
    report.figure(
        "largest of 30 shims, PSS",
        largest(&proportional),
        "MB",
        AtMost(1.0),
    );
    report.note("PSS of all shims", proportional.iter().sum(), "MB");
    Ok(())
}
