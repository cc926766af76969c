//! `cargo xtask fuzz`: hostile input for everything that reads what strangers send, in this process and by a seed.
//!
//! A finding is a panic, also of a task behind the reader, an input that costs too much time, or one that ends the process. The
//! input in work is on disk before it is read, so that it is there after any end.

mod bodies;
mod connections;
mod mutate;
mod targets;
mod texts;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use fastrand::Rng;

use mutate::Pool;
use targets::{Fate, TARGETS, Target};

const SECONDS: u64 = 60;
/// Processor time that one input may cost; a test build is slow, and still no input needs a tenth of it.
const COST_MAX: Duration = Duration::from_secs(2);
/// Readers run on threads of tokio in a server: with its stack.
const STACK_BYTES: usize = 2 << 20;
/// Bytes of a finding that are shown; the file has all.
const SHOWN_BYTES_MAX: usize = 400;

/// What panics said, also those of other threads.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Arguments {
    seconds: u64,
    seed: u64,
    /// One input instead of made ones.
    input: Option<PathBuf>,
    targets: Vec<&'static Target>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&root(), &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(3).unwrap_or(manifest).to_owned()
}

fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let arguments = parse(words)?;
    let folder = root.join("target/fuzz");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    std::panic::set_hook(Box::new(|panic| {
        panics().push(panic.to_string());
    }));
    let mut findings = 0;
    for target in arguments.targets.iter().copied() {
        let file = folder.join(target.name);
        let (seed, seconds) = (arguments.seed, arguments.seconds);
        let input = match &arguments.input {
            Some(path) => {
                Some(std::fs::read(path).with_context(|| format!("read {}", path.display()))?)
            }
            None => None,
        };
        let work = move || match input {
            Some(input) => judge_one(target, &input),
            None => fuzz(target, seed, Duration::from_secs(seconds), &file),
        };
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let ended = thread.spawn(work)?.join();
        let Ok(found) = ended else {
            bail!(
                "{}: the target itself panicked: {:?}",
                target.name,
                panics()
            );
        };
        findings += usize::from(found? == Found::Something);
    }
    ensure!(findings == 0, "{findings} targets have a finding");
    Ok(())
}

fn parse(words: &[&str]) -> anyhow::Result<Arguments> {
    let mut arguments = Arguments {
        seconds: SECONDS,
        seed: fastrand::u64(..),
        input: None,
        targets: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value"))
        };
        match word {
            "--seconds" => arguments.seconds = value()?.parse().context("--seconds")?,
            "--seed" => arguments.seed = value()?.parse().context("--seed")?,
            "--input" => arguments.input = Some(value()?.into()),
            name => {
                let found = TARGETS.iter().find(|target| target.name == name);
                arguments.targets.push(found.with_context(|| {
                    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                    format!("no target is called {name}; there are {}", names.join(", "))
                })?);
            }
        }
    }
    if arguments.targets.is_empty() {
        ensure!(
            arguments.input.is_none(),
            "--input needs the target that it is for"
        );
        arguments.targets.extend(TARGETS);
    }
    Ok(arguments)
}

#[derive(PartialEq)]
enum Found {
    Nothing,
    Something,
}

fn fuzz(target: &Target, seed: u64, span: Duration, file: &Path) -> anyhow::Result<Found> {
    let (samples, mut judge) = (target.prepare)().context(target.name)?;
    let mut rng = Rng::with_seed(seed);
    for sample in &samples {
        if judge(sample) != Fate::Understood {
            let text = sample.escape_ascii();
            bail!("{}: a sample is not understood: {text}", target.name);
        }
    }
    let mut pool = Pool::new(samples);
    // Kept open: a file that is made anew each time is flushed to the disk each time.
    let last = File::create(file).with_context(|| format!("make {}", file.display()))?;
    let (mut runs, mut understood) = (0_u64, 0_u64);
    let deadline = Instant::now() + span;
    while Instant::now() < deadline {
        let input = pool.next(&mut rng);
        last.set_len(input.len() as u64)?;
        last.write_all_at(&input, 0)?;
        runs += 1;
        match try_one(&mut judge, &input) {
            Ok(Fate::Understood) => {
                understood += 1;
                pool.learn(input, &mut rng);
            }
            Ok(Fate::Refused) => {}
            Err(why) => {
                println!(
                    "{}: FOUND with seed {seed} at input {runs}: {why}",
                    target.name
                );
                println!("  {}", shown(&input));
                println!(
                    "  again: cargo xtask fuzz {} --input {}",
                    target.name,
                    file.display()
                );
                return Ok(Found::Something);
            }
        }
    }
    println!(
        "{:16} {runs:>10} inputs, {understood:>9} understood, no finding; seed {seed}",
        target.name
    );
    Ok(Found::Nothing)
}

fn judge_one(target: &Target, input: &[u8]) -> anyhow::Result<Found> {
    let (_, mut judge) = (target.prepare)().context(target.name)?;
    match try_one(&mut judge, input) {
        Ok(fate) => {
            println!("{}: {fate:?}", target.name);
            Ok(Found::Nothing)
        }
        Err(why) => {
            println!("{}: {why}", target.name);
            Ok(Found::Something)
        }
    }
}

fn try_one(judge: &mut targets::Judge, input: &[u8]) -> Result<Fate, String> {
    let before = processor_time();
    let judged = std::panic::catch_unwind(AssertUnwindSafe(|| judge(input)));
    let cost = processor_time().saturating_sub(before);
    let said = std::mem::take(&mut *panics());
    if !said.is_empty() {
        return Err(said.join("; "));
    }
    if cost > COST_MAX {
        return Err(format!("it costs {cost:?}"));
    }
    judged.map_err(|_| "a panic that says nothing".to_owned())
}

/// Of this process, so that readers with tasks of their own count.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

fn panics() -> std::sync::MutexGuard<'static, Vec<String>> {
    PANICS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn shown(input: &[u8]) -> String {
    let start = &input[..input.len().min(SHOWN_BYTES_MAX)];
    let more = if start.len() < input.len() {
        " …"
    } else {
        ""
    };
    format!("{} bytes: {}{more}", input.len(), start.escape_ascii())
}
