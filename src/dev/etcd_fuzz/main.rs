//! `cargo xtask fuzz-etcd`: streams of requests by seeds, to an etcd and to ours; every answer must be the same.
//!
//! A stream begins with empty servers, so that revisions are the same too. The seed file says where the next run goes on. A stream that fails is
//! shrunk and printed; its seed comes again until it passes.

mod answers;
mod episode;
mod generate;
mod seed_file;
mod servers;
mod shown;
mod shrink;
mod steps;
mod transactions;
mod watches;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use fastrand::Rng;

use episode::Episode;
use seed_file::Progress;
use shown::short;
use steps::Step;

const USAGE: &str = "\
cargo xtask fuzz-etcd FOLDER [--operations N] [--seed S] [--seed-file FILE]

  FOLDER              where the program `etcd` is
  --operations N      end once all runs together did N operations; 10,000,000 unless said otherwise
  --seed S            only the stream of this seed
  --seed-file FILE    where the run goes on; target/etcd-fuzz.txt unless said otherwise
";
const OPERATIONS: u64 = 10_000_000;
/// Steps of a stream.
const STEPS: usize = 3000;
/// Where it is, nothing waits for a disk.
const TMPFS: &str = "/dev/shm";
/// Every so many streams, leases end by time, and servers start again in the middle.
const SLOW_EVERY: u64 = 4;
/// Steps of a failing stream that are shown.
const SHOWN_STEPS_MAX: usize = 60;

struct Arguments {
    program: PathBuf,
    operations: u64,
    seed: Option<u64>,
    seed_file: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = parse(&words).and_then(|arguments| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(run(&arguments))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz-etcd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[&str]) -> anyhow::Result<Arguments> {
    let Some((folder, mut words)) = words.split_first() else {
        bail!("{USAGE}");
    };
    let mut arguments = Arguments {
        program: Path::new(folder).join("etcd"),
        operations: OPERATIONS,
        seed: None,
        seed_file: PathBuf::from("target/etcd-fuzz.txt"),
    };
    while let Some((word, rest)) = words.split_first() {
        let (value, rest) = rest.split_first().context(USAGE)?;
        match *word {
            "--operations" => arguments.operations = value.parse().context("--operations")?,
            "--seed" => arguments.seed = Some(value.parse().context("--seed")?),
            "--seed-file" => arguments.seed_file = value.into(),
            _ => bail!("{USAGE}"),
        }
        words = rest;
    }
    ensure!(
        arguments.program.is_file(),
        "{} is not there",
        arguments.program.display()
    );
    Ok(arguments)
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(seed) = arguments.seed {
        let done = stream(arguments, seed).await?;
        println!(
            "seed {seed}: {} requests, {} operations, all the same",
            done.requests, done.operations
        );
        return Ok(());
    }
    let mut progress = Progress::read(&arguments.seed_file)?;
    while progress.operations < arguments.operations {
        let begin = Instant::now();
        let done = stream(arguments, progress.next_seed).await?;
        progress.requests += done.requests;
        progress.operations += done.operations;
        println!(
            "seed {}: {} requests, {} operations, {:.0} operations a second; in all {} and {}",
            progress.next_seed,
            done.requests,
            done.operations,
            done.operations as f64 / begin.elapsed().as_secs_f64(),
            progress.requests,
            progress.operations
        );
        progress.next_seed += 1;
        progress.write(&arguments.seed_file)?;
    }
    Ok(())
}

/// Runs the stream of a seed.
async fn stream(arguments: &Arguments, seed: u64) -> anyhow::Result<Progress> {
    let tmpfs = Path::new(TMPFS);
    let mut rng = Rng::with_seed(seed);
    let mut episode = Episode::begin(&arguments.program, tmpfs).await?;
    let mut done = Progress::default();
    let mut steps = Vec::new();
    for at in 0..=STEPS {
        let step = match at {
            STEPS => Step::Settle,
            1500 if seed.is_multiple_of(SLOW_EVERY) => Step::Restart,
            1000 if seed % SLOW_EVERY == 1 => Step::Expire(1 << 40),
            _ => episode.known.next(&mut rng),
        };
        steps.push(step.clone());
        if let Err(error) = episode.step(&step).await {
            drop(episode);
            return Err(report(arguments, seed, steps, error).await?);
        }
        done.requests += step.requests();
        done.operations += step.operations();
    }
    Ok(done)
}

/// Shrinks and prints a stream that fails.
async fn report(
    arguments: &Arguments,
    seed: u64,
    steps: Vec<Step>,
    error: anyhow::Error,
) -> anyhow::Result<anyhow::Error> {
    println!(
        "seed {seed} fails at step {}: {}",
        steps.len(),
        short(&format!("{error:#}"))
    );
    let (steps, failure) = shrink::shrink(&arguments.program, Path::new(TMPFS), steps).await?;
    let Some(failure) = failure else {
        return Ok(error.context("it does not fail a second time with one request at a time"));
    };
    println!("{} steps are enough:", steps.len());
    for step in steps.iter().rev().take(SHOWN_STEPS_MAX).rev() {
        println!("  {}", short(&format!("{step:?}")));
    }
    println!("then {}", short(&format!("{failure:#}")));
    Ok(anyhow::anyhow!(
        "seed {seed} is answered in another way than by etcd"
    ))
}
