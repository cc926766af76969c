//! The API server and its store beside upstream's: creates, and lists of what was created.

use super::Bench;
use super::load::{Connection, JSON, PROTOBUF, create_config_maps};
use super::report::{AtMost, Report, median};
use super::server::{Parts, Server};
use super::upstream::Upstream;

const ROUNDS: usize = 3;
const CREATES_ONE: usize = 500;
const CREATES_MANY: usize = 2_000;
const CONNECTIONS: usize = 32;
const OBJECTS: usize = 10_000;
const LISTS: usize = 15;

/// One of the two: its connections, and what was measured.
struct Subject {
    connections: Vec<Connection>,
    one: Vec<f64>,
    many: Vec<f64>,
}

impl Subject {
    fn new(connections: Vec<Connection>) -> Self {
        Self {
            connections,
            one: Vec::new(),
            many: Vec::new(),
        }
    }

    async fn warm_up(&self) -> anyhow::Result<()> {
        for (number, connection) in self.connections.iter().enumerate() {
            create_config_maps(
                std::slice::from_ref(connection),
                &format!("warm-{number}"),
                5,
            )
            .await?;
        }
        Ok(())
    }

    async fn round(&mut self, round: usize) -> anyhow::Result<()> {
        self.one.push(
            create_config_maps(&self.connections[..1], &format!("one-{round}"), CREATES_ONE)
                .await?,
        );
        self.many.push(
            create_config_maps(&self.connections, &format!("many-{round}"), CREATES_MANY).await?,
        );
        Ok(())
    }

    /// Makes the number of objects that lists are measured with.
    async fn fill(&self) -> anyhow::Result<()> {
        let made = CONNECTIONS * 5 + ROUNDS * (CREATES_ONE + CREATES_MANY);
        create_config_maps(&self.connections, "fill", OBJECTS - made)
            .await
            .map(drop)
    }

    async fn list(&self, accept: &'static str) -> anyhow::Result<(f64, usize)> {
        let (mut times, mut size) = (Vec::new(), 0);
        for _ in 0..LISTS {
            let (time, bytes) = self.connections[0].time_list(accept).await?;
            times.push(time.as_secs_f64() * 1e3);
            size = bytes;
        }
        Ok((median(times), size))
    }
}

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let server = Server::start(bench, "api", Parts::ApiServer)?;
    server.ready().await?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(server.connect().await?);
    }
    let mut subjects = vec![Subject::new(connections)];
    let upstream = if let Some(binaries) = &bench.upstream {
        Some(Upstream::start(binaries, &bench.folder.path().join("upstream")).await?)
    } else {
        report.say(
            "COMBO_UPSTREAM_BIN names no folder with etcd and kube-apiserver: nothing is compared",
        );
        None
    };
    if let Some(upstream) = &upstream {
        let connections = (0..CONNECTIONS)
            .map(|_| upstream.connect())
            .collect::<anyhow::Result<_>>()?;
        subjects.push(Subject::new(connections));
    }
    for subject in &subjects {
        subject.warm_up().await?;
    }
    for round in 0..ROUNDS {
        for subject in &mut subjects {
            subject.round(round).await?;
        }
    }
    let median_of = |of: fn(&Subject) -> &Vec<f64>| -> Vec<f64> {
        subjects.iter().map(|one| median(of(one).clone())).collect()
    };
    let (one, many) = (
        median_of(|subject| &subject.one),
        median_of(|subject| &subject.many),
    );
    report.rate(
        "create 1 KB ConfigMaps, 1 connection",
        one[0],
        one.get(1).copied(),
        2.0,
    );
    report.rate(
        "create 1 KB ConfigMaps, 32 connections",
        many[0],
        many.get(1).copied(),
        2.0,
    );
    for subject in &subjects {
        subject.fill().await?;
    }
    for (form, accept) in [("JSON", JSON), ("protobuf", PROTOBUF)] {
        let mut times = Vec::new();
        for subject in &subjects {
            let (time, size) = subject.list(accept).await?;
            report.say(&format!("a list in {form} has {size} bytes"));
            times.push(time);
        }
        report.time(
            &format!("list 10,000 ConfigMaps, {form}"),
            times[0],
            times.get(1).copied(),
            AtMost(0.5),
        );
    }
    Ok(())
}
