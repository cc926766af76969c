//! A whole node: how quickly pods run, what it takes when idle, and what objects cost it.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::Image;

use super::Bench;
use super::load::{CONFIG_MAPS, Connection, JSON, create_config_maps};
use super::machines::IMAGE;
use super::process;
use super::report::{AtMost, Report, median, megabytes};
use super::server::{NODE, Parts, Server};
use super::wait::{START_MAX, until};

const PODS: &str = "/api/v1/namespaces/default/pods";
const POD_STARTS: usize = 20;
const PROCESSOR_SECONDS: u64 = 60;
const OBJECTS: usize = 10_000;
const CONNECTIONS: usize = 8;
/// Until what deleting left behind is given back.
const SETTLE: Duration = Duration::from_secs(60);
/// The binary's own pages, and those that the store keeps for a while, settle before growth is measured.
const WARM_UP_OBJECTS: usize = 500;

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let server = Server::start(bench, "node", Parts::All)?;
    server.node_ready().await?;
    let archive = bench.folder.path().join("image.tar");
    Image::of_binary(&bench.webserver)?.write(IMAGE, &archive)?;
    let data_dir = server.data_dir.display().to_string();
    server.combo(&[
        "image",
        "import",
        "--data-dir",
        &data_dir,
        &archive.display().to_string(),
    ])?;
    server.combo(&[
        "kubectl",
        "apply",
        "-f",
        &bench.manifest.display().to_string(),
    ])?;
    let connection = server.connect().await?;
    until("the sample runs", START_MAX, || async {
        let deployment = connection
            .get_json("/apis/apps/v1/namespaces/default/deployments/hello")
            .await
            .unwrap_or_default();
        deployment["status"]["availableReplicas"] == 3
    })
    .await?;
    drop(connection);
    idle(bench, &server, report).await?;
    let connection = server.connect().await?;
    pod_starts(&connection, report).await?;
    objects(&server, report).await
}

/// Memory and processor time of a node that has nothing to do.
async fn idle(bench: &Bench, server: &Server, report: &mut Report) -> anyhow::Result<()> {
    report.say(&format!("idle for {} s", bench.idle_seconds));
    env::sleep(Duration::from_secs(bench.idle_seconds)).await;
    report.figure(
        "idle RSS with the sample",
        megabytes(process::resident(server.pid())?),
        "MB",
        AtMost(60.0),
    );
    report.note(
        "… of it not of files",
        megabytes(process::resident_anonymous(server.pid())?),
        "MB",
    );
    let shims = process::shims(&server.data_dir)?;
    let sizes: Vec<f64> = shims
        .iter()
        .map(|&pid| process::private(pid).map(megabytes))
        .collect::<anyhow::Result<_>>()?;
    report.say(&format!("{} shims, private MB: {sizes:.2?}", shims.len()));
    report.figure(
        "largest shim, private memory",
        sizes.into_iter().fold(0.0, f64::max),
        "MB",
        AtMost(1.0),
    );
    let before = process::processor_time(server.pid())?;
    env::sleep(Duration::from_secs(PROCESSOR_SECONDS)).await;
    let spent = process::processor_time(server.pid())?.saturating_sub(before);
    let percent =
        100.0 * spent.as_secs_f64() / Duration::from_secs(PROCESSOR_SECONDS).as_secs_f64();
    report.figure("idle processor time", percent, "% of a core", AtMost(1.0));
    Ok(())
}

/// From the request to `phase: Running`, one pod after the other.
async fn pod_starts(connection: &Connection, report: &mut Report) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for number in 0..POD_STARTS {
        let path = format!("{PODS}/start-{number}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("start-{number}")},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}]},
        });
        let begun = Instant::now();
        connection.create(PODS, &pod).await?;
        until("the pod runs", START_MAX, || async {
            connection.get_json(&path).await.unwrap_or_default()["status"]["phase"] == "Running"
        })
        .await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        // An answer that the pod is gone already is as good; the next line is what counts.
        drop(connection.delete(&path).await);
        until("the pod is gone", START_MAX, || async {
            connection.get(&path).await.is_err()
        })
        .await?;
    }
    report.say(&format!("create → running on {NODE}, ms: {times:.0?}"));
    report.figure(
        "create → running, cached image, median of 20",
        median(times),
        "ms",
        AtMost(400.0),
    );
    Ok(())
}

/// What stored objects cost while they are there, and what stays of them.
#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of memory are far below 2^52"
)]
async fn objects(server: &Server, report: &mut Report) -> anyhow::Result<()> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(server.connect().await?);
    }
    create_config_maps(&connections, "warm", WARM_UP_OBJECTS).await?;
    let before = process::resident(server.pid())?;
    create_config_maps(&connections, "many", OBJECTS).await?;
    env::sleep(SETTLE).await;
    let grown = process::resident(server.pid())?.saturating_sub(before) as f64;
    let (_, listed) = connections[0].time_list(JSON).await?;
    let size = listed as f64 / (OBJECTS + WARM_UP_OBJECTS) as f64;
    let each = grown / OBJECTS as f64;
    report.say(&format!(
        "an object has {size:.0} bytes of JSON and takes {each:.0} bytes of memory"
    ));
    report.figure(
        "RSS growth per stored object",
        each / size,
        "× its JSON",
        AtMost(2.5),
    );
    connections[0].delete(CONFIG_MAPS).await?;
    drop(connections);
    env::sleep(SETTLE).await;
    let after = megabytes(process::resident(server.pid())?);
    report.figure(
        "RSS after 10,000 ConfigMaps were made and deleted",
        after,
        "MB",
        AtMost(90.0),
    );
    report.note(
        "… of it not of files",
        megabytes(process::resident_anonymous(server.pid())?),
        "MB",
    );
    Ok(())
}
