//! The store's figures, beside etcd and kine: every server is a process of its own and is asked by the same callers, turn by turn.

mod churn;
mod device;
mod idle;
mod inside;
mod puts;
mod servers;
mod watchers;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, ensure};
pub(crate) use servers::{SERVE, serve};

use crate::Bench;
use crate::report::{AtMost, Report, median, megabytes};
use device::OwnDisk;
use puts::{Work, percentile};
use servers::Server;

const PORT_OWN: u16 = 26_551;
const PORT_ETCD: u16 = 26_552;
const PORT_KINE: u16 = 26_554;
/// Callers at once, and how much of etcd's rate is wanted then.
const CALLERS: [(usize, f64); 4] = [(1, 1.8), (10, 1.8), (100, 1.8), (1000, 1.3)];
/// Each server's turns with each number of callers, and how long one is.
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(2);
/// Keys that these puts are spread over.
const KEYS_WRITTEN: usize = 10_000;
/// Keys of a store whose memory is looked at.
pub(crate) const KEYS: usize = 100_000;
/// A quiet cluster's writes.
const TRICKLE: usize = 150;
const TRICKLE_PAUSE: Duration = Duration::from_millis(200);
/// What a put may cost above the disk's flush, in milliseconds.
const ABOVE_FLUSH: f64 = 0.15;
const KINE_CALLERS: usize = 100;

const PARTS: &[&str] = &["rates", "kine", "watches", "bytes", "memory", "compaction"];
/// The part that takes minutes and is only done when it is named.
const CHURN: &str = "churn";

/// Measures the parts named, all of `PARTS` if none is.
pub(crate) async fn measure(
    bench: &Bench,
    parts: &[&str],
    report: &mut Report,
) -> anyhow::Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "the store is measured in a release build: cargo xtask bench store"
    );
    if parts == [CHURN] {
        return churn::run(&bench.folder.path().join(CHURN), report).await;
    }
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(part)) {
        bail!("{unknown} is no part of the store's bench; these are: {PARTS:?}");
    }
    let folder = bench.folder.path();
    let program = |name: &str| {
        let binaries = bench.upstream.as_ref();
        binaries
            .map(|binaries| binaries.join(name))
            .filter(|path| path.exists())
    };
    let (etcd, kine) = (program("etcd"), program("kine"));
    for part in PARTS
        .iter()
        .filter(|part| parts.is_empty() || parts.contains(part))
    {
        match (*part, etcd.as_deref()) {
            ("rates", etcd) => rates(folder, etcd, report).await?,
            ("kine", _) => match &kine {
                Some(kine) => beside_kine(folder, kine, report).await?,
                None => report.say("no kine among upstream's programs: not compared with it"),
            },
            ("watches", etcd) => watches(folder, etcd, report).await?,
            ("bytes", etcd) => bytes_written(folder, etcd, report).await?,
            ("memory", etcd) => memory(folder, etcd, report).await?,
            _ => inside::compact(&folder.join("compaction"), report).await?,
        }
    }
    Ok(())
}

/// The servers of one comparison.
struct Pair {
    own: Server,
    etcd: Option<Server>,
}

impl Pair {
    async fn start(own: PathBuf, etcd: Option<(&Path, PathBuf)>) -> anyhow::Result<Self> {
        Ok(Self {
            own: Server::own(&own, PORT_OWN).await?,
            etcd: match etcd {
                Some((binary, folder)) => Some(Server::etcd(binary, &folder, PORT_ETCD).await?),
                None => None,
            },
        })
    }

    async fn in_folder(folder: &Path, name: &str, etcd: Option<&Path>) -> anyhow::Result<Self> {
        let of = |who: &str| folder.join(format!("{name}-{who}"));
        Self::start(of("own"), etcd.map(|binary| (binary, of("etcd")))).await
    }
}

/// Rates and times of one server over its turns.
#[derive(Default)]
struct Turns {
    rates: Vec<f64>,
    latencies: Vec<Duration>,
}

impl Turns {
    async fn take(&mut self, server: &Server, callers: usize, work: Work) -> anyhow::Result<()> {
        let seen = puts::run(server.port, callers, work).await?;
        self.rates.push(seen.rate());
        self.latencies.extend(seen.latencies);
        Ok(())
    }

    fn p(&mut self, part: f64) -> f64 {
        percentile(&mut self.latencies, part)
    }
}

async fn rates(folder: &Path, etcd: Option<&Path>, report: &mut Report) -> anyhow::Result<()> {
    let pair = Pair::in_folder(folder, "rates", etcd).await?;
    for (callers, at_least) in CALLERS {
        let (mut own, mut other) = (Turns::default(), Turns::default());
        let mut flushes = Vec::new();
        for _ in 0..TURNS {
            let work = Work::Among(KEYS_WRITTEN, TURN);
            own.take(&pair.own, callers, work.clone()).await?;
            if let Some(etcd) = &pair.etcd {
                other.take(etcd, callers, work).await?;
            }
            if callers == 1 {
                flushes.extend(device::flushes(folder)?);
            }
        }
        let has_etcd = pair.etcd.is_some();
        let beside = has_etcd.then(|| median(other.rates.clone()));
        let what = format!("durable 1 KB puts over gRPC, {callers} callers");
        report.rate(&what, median(own.rates.clone()), beside, at_least);
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            let beside = has_etcd.then(|| other.p(part));
            report.fine_time(&format!("{what}, {name}"), own.p(part), beside);
        }
        if callers == 1 {
            let flush = percentile(&mut flushes, 0.5);
            let above = own.p(0.5) - flush;
            report.say(&format!(
                "a bare write of a page and its flush: p50 {flush:.3} ms"
            ));
            report.figure(
                "single put p50, more than a bare flush",
                above,
                "ms",
                AtMost(ABOVE_FLUSH),
            );
        }
    }
    Ok(())
}

/// kine knows only the transactions of Kubernetes: all create keys here.
async fn beside_kine(folder: &Path, kine: &Path, report: &mut Report) -> anyhow::Result<()> {
    let own = Server::own(&folder.join("creates-own"), PORT_OWN).await?;
    let kine = Server::kine(kine, &folder.join("creates-kine"), PORT_KINE).await?;
    let (mut ours, mut other) = (Turns::default(), Turns::default());
    for turn in 0..TURNS {
        let work = Work::Create(turn * 1_000_000, TURN);
        ours.take(&own, KINE_CALLERS, work.clone()).await?;
        other.take(&kine, KINE_CALLERS, work).await?;
    }
    let (ours_rate, other_rate) = (median(ours.rates.clone()), median(other.rates.clone()));
    report.beside(
        "1 KB creates over gRPC, 100 callers, beside kine (SQLite, not durable)",
        ours_rate,
        other_rate,
        "/s",
    );
    report.beside("the same, p99", ours.p(0.99), other.p(0.99), "ms");
    Ok(())
}

async fn watches(folder: &Path, etcd: Option<&Path>, report: &mut Report) -> anyhow::Result<()> {
    let pair = Pair::in_folder(folder, "watches", etcd).await?;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        own.extend(watchers::measure(pair.own.port).await?);
        if let Some(etcd) = &pair.etcd {
            other.extend(watchers::measure(etcd.port).await?);
        }
    }
    let beside = (!other.is_empty()).then(|| percentile(&mut other, 0.99));
    let what = format!("put → each of {} watchers, p99", watchers::WATCHERS);
    report.time(&what, percentile(&mut own, 0.99), beside, AtMost(1.0));
    Ok(())
}

async fn bytes_written(
    folder: &Path,
    etcd: Option<&Path>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    let mut servers: Vec<(&str, Option<&Path>)> = vec![("own", None)];
    servers.extend(etcd.map(|binary| ("etcd", Some(binary))));
    for (name, binary) in servers {
        let disk = OwnDisk::make(&folder.join(format!("disk-{name}")))?;
        let data = disk.folder.join("data");
        let server = match binary {
            Some(binary) => Server::etcd(binary, &data, PORT_ETCD).await?,
            None => Server::own(&data, PORT_OWN).await?,
        };
        puts::trickle(server.port, 20, Duration::ZERO).await?;
        let before = disk.sent()?;
        puts::trickle(server.port, TRICKLE, TRICKLE_PAUSE).await?;
        let after = disk.sent()?;
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let each = |before: u64, after: u64| (after - before) as f64 / TRICKLE as f64;
        figures.push((
            each(before.bytes, after.bytes) / 1000.0,
            each(before.flushes, after.flushes),
        ));
        drop(server);
    }
    report.figure(
        "device bytes for a 1 KB put, 5 a second",
        figures[0].0,
        "KB",
        AtMost(13.0),
    );
    report.note("device flushes for each", figures[0].1, "");
    if let Some((bytes, flushes)) = figures.get(1) {
        report.beside("the same, bytes beside etcd", figures[0].0, *bytes, "KB");
        report.beside("the same, flushes beside etcd", figures[0].1, *flushes, "");
    }
    Ok(())
}

/// Memory with many keys, then what a process without the API has of the same store.
async fn memory(folder: &Path, etcd: Option<&Path>, report: &mut Report) -> anyhow::Result<()> {
    let pair = Pair::in_folder(folder, "memory", etcd).await?;
    puts::run(PORT_OWN, 100, Work::Each(KEYS)).await?;
    let filled = idle::settled(pair.own.pid()).await?;
    report.figure(
        "resident with 100,000 × 1 KB, just written",
        megabytes(filled),
        "MB",
        AtMost(150.0),
    );
    if let Some(etcd) = pair.etcd {
        puts::run(PORT_ETCD, 100, Work::Each(KEYS)).await?;
        let beside = idle::settled(etcd.pid()).await?;
        report.beside(
            "the same beside etcd",
            megabytes(filled),
            megabytes(beside),
            "MB",
        );
    }
    idle::measure(pair.own.pid(), report).await?;
    pair.own.stop()?;
    let data = folder.join("memory-own");
    let again = Server::own(&data, PORT_OWN).await?;
    let opened = idle::settled(again.pid()).await?;
    report.figure(
        "resident with 100,000 × 1 KB, opened again",
        megabytes(opened),
        "MB",
        AtMost(150.0),
    );
    again.stop()?;
    inside::open_and_count(&data.join("state.db"), report).await
}
