//! `cargo xtask linearizability`: clients and watchers on etcd's port of a store that is killed again and again; every history must be explained by one
//! order of its operations, and every watch must have kept its promises.

mod child;
mod clients;
mod guarantees;
mod history;
mod model;
mod run;
mod search;
mod server;
mod watchers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use model::Leases;
use run::{Counted, Scenario};
use server::Plant;

const USAGE: &str = "\
cargo xtask linearizability [--runs N] [--seconds N] [--seed S] [--leases strict|relaxed] [--plant PLANT] [--folder FOLDER]

  --runs N            so many runs; 500 unless said otherwise
  --seconds N         how long there is traffic in a run; 3 unless said otherwise
  --seed S            the first run's; every further run has the next one
  --leases relaxed    writes of a few keys are relaxed: a kill may lose them, but nothing else and no revision
  --plant PLANT       a server that breaks a promise: stale-read, lost-writes, lost-event; each run must notice
  --folder FOLDER     where the store is
";
const RUNS: u64 = 500;
const SECONDS: u64 = 3;

struct Arguments {
    runs: u64,
    seconds: u64,
    seed: u64,
    leases: Leases,
    plant: Plant,
    folder: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match start(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linearizability: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(words: &[&str]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if let ["serve", file, port, leases, plant] = words {
        let plant = Plant::named(plant).context(USAGE)?;
        let served = server::serve(Path::new(file), port.parse()?, named(leases)?, plant);
        return runtime.block_on(served);
    }
    runtime.block_on(all(&parse(words)?))
}

fn named(leases: &str) -> anyhow::Result<Leases> {
    match leases {
        "strict" => Ok(Leases::Strict),
        "relaxed" => Ok(Leases::Relaxed),
        _ => bail!("{USAGE}"),
    }
}

fn parse(words: &[&str]) -> anyhow::Result<Arguments> {
    let mut arguments = Arguments {
        runs: RUNS,
        seconds: SECONDS,
        seed: 0,
        leases: Leases::Strict,
        plant: Plant::Nothing,
        folder: std::env::temp_dir(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().context(USAGE)?;
        match *word {
            "--runs" => arguments.runs = value.parse().context("--runs")?,
            "--seconds" => arguments.seconds = value.parse().context("--seconds")?,
            "--seed" => arguments.seed = value.parse().context("--seed")?,
            "--leases" => arguments.leases = named(value)?,
            "--plant" => arguments.plant = Plant::named(value).context(USAGE)?,
            "--folder" => arguments.folder = value.into(),
            _ => bail!("{USAGE}"),
        }
    }
    Ok(arguments)
}

async fn all(arguments: &Arguments) -> anyhow::Result<()> {
    let mut sum = Counted::default();
    let mut noticed = 0;
    for number in 0..arguments.runs {
        let scenario = Scenario {
            seed: arguments.seed + number,
            span: Duration::from_secs(arguments.seconds),
            leases: arguments.leases,
            plant: arguments.plant,
            folder: &arguments.folder,
        };
        match run::run(&scenario).await {
            Ok(counted) => add(&mut sum, counted),
            Err(found) if arguments.plant != Plant::Nothing => {
                println!("seed {} noticed: {found:#}", scenario.seed);
                noticed += 1;
            }
            Err(found) => return Err(found.context(format!("seed {}", scenario.seed))),
        }
        println!(
            "{} runs: {} operations, {} of unknown outcome, {} kills, {} events, {:.1?} to judge",
            number + 1,
            sum.operations,
            sum.unknown,
            sum.kills,
            sum.events,
            sum.judged_in
        );
    }
    if arguments.plant != Plant::Nothing {
        println!(
            "{noticed} of {} runs noticed the broken promise",
            arguments.runs
        );
        ensure!(
            noticed == arguments.runs,
            "a broken promise was not noticed"
        );
    }
    Ok(())
}

fn add(sum: &mut Counted, run: Counted) {
    sum.operations += run.operations;
    sum.unknown += run.unknown;
    sum.kills += run.kills;
    sum.events += run.events;
    sum.judged_in += run.judged_in;
}
