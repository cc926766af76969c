//! Power loss without a machine: the store works on an ext4 whose every write and flush is noted, then the disks that a power cut could have left
//! behind are rebuilt by the hundred, and the store in each is looked at. Needs root, FUSE and loop devices.
//!
//! What a disk promises is no more than this: what was written before a flush that completed is there; of what was written since, anything may be.

mod check;
mod disk;
mod fuse;
mod history;
mod mounts;
mod workload;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use kv::Revision;
use parking_lot::Mutex;

use check::Acknowledged;
use disk::{Disk, Entry, KINDS, Kind};
use fuse::Mounted;
use history::{History, Told};
use mounts::Ext4;
use workload::Writes;

const USAGE: &str = "cargo xtask power-loss [STATES [SEED]]";
const STATES: usize = 1000;
/// States of the proof that the harness sees what is lost.
const STATES_OF_PROOF: usize = 40;
const DISK_BYTES: u64 = 96 << 20;
/// Violations that are told in words.
const TOLD_MAX: usize = 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("power-loss: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> anyhow::Result<()> {
    let number = |at: usize, usual: u64| match words.get(at) {
        Some(word) => word.parse().context(USAGE),
        None => Ok(usual),
    };
    let (states, seed) = (number(0, STATES as u64)?, number(1, 1)?);
    let states = usize::try_from(states)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(all(states, seed))
}

/// Three recordings: durable writes, some relaxed ones among them, and a store that goes on after a power cut.
async fn all(states: usize, seed: u64) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("power-loss-").tempdir()?;
    let harness = Harness {
        folder: folder.path(),
        seed,
    };
    let empty = mounts::empty(folder.path(), DISK_BYTES)?;
    let mut totals = Totals::default();
    let share = states.div_ceil(3);
    let first = harness
        .record("durable writes", empty.clone(), Writes::Durable)
        .await?;
    harness
        .look_at(&first, share, Flushes::Count, &mut totals)
        .await?;
    let second = harness
        .record("relaxed writes among them", empty, Writes::Mixed)
        .await?;
    harness
        .look_at(&second, share, Flushes::Count, &mut totals)
        .await?;
    let cut = harness.cut_in_half(&second);
    let third = harness
        .record("on a disk that lost power", cut, Writes::Mixed)
        .await?;
    harness
        .look_at(&third, share, Flushes::Count, &mut totals)
        .await?;
    println!("{}", totals.say());
    let mut proof = Totals::default();
    println!("the proof: the same with flushes that do nothing has to lose something");
    harness
        .look_at(&first, STATES_OF_PROOF, Flushes::Ignore, &mut proof)
        .await?;
    println!("{}", proof.say());
    ensure!(
        proof.violations() > 0,
        "the harness does not see what is lost without flushes"
    );
    ensure!(
        totals.violations() == 0,
        "{} states are not whole",
        totals.violations()
    );
    Ok(())
}

/// What happened to a disk.
struct Recording {
    medium: Vec<u8>,
    entries: Vec<Entry<Told>>,
    /// The newest revision that was there when the store was opened.
    found: Revision,
    history: History,
}

/// Whether a flush does what it promises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flushes {
    Count,
    Ignore,
}

#[derive(Default)]
struct Totals(BTreeMap<Kind, (usize, usize)>);

impl Totals {
    fn add(&mut self, kind: Kind, violated: bool) -> usize {
        let (states, violations) = self.0.entry(kind).or_default();
        *states += 1;
        *violations += usize::from(violated);
        self.violations()
    }

    fn violations(&self) -> usize {
        self.0.values().map(|(_, violations)| violations).sum()
    }

    fn say(&self) -> String {
        let states: usize = self.0.values().map(|(states, _)| states).sum();
        let kinds = self.0.iter().map(|(kind, (states, violations))| {
            format!(
                "{} {violations} of {states}",
                format!("{kind:?}").to_lowercase()
            )
        });
        let kinds: Vec<_> = kinds.collect();
        format!("{states} states; violations: {}", kinds.join(", "))
    }
}

struct Harness<'a> {
    folder: &'a Path,
    seed: u64,
}

impl Harness<'_> {
    async fn record(
        &self,
        name: &str,
        medium: Vec<u8>,
        writes: Writes,
    ) -> anyhow::Result<Recording> {
        let begun = Instant::now();
        let disk = Arc::new(Mutex::new(Disk::new(medium.clone())));
        disk.lock().record();
        let file = Mounted::new(&self.folder.join("recorded"), Arc::clone(&disk))?;
        let mounted = self.folder.join("mounted");
        let ext4 = Ext4::mount(&file.file(), &mounted)?;
        let (found, history) = workload::run(&mounted, &disk, writes, self.seed).await?;
        ext4.unmount().await?;
        let entries = disk.lock().recorded();
        drop(file);
        let count = |of: fn(&Entry<Told>) -> bool| entries.iter().filter(|entry| of(entry)).count();
        println!(
            "{name}: {} writes, {} flushes, {} acknowledgements in {:.1} s",
            count(|entry| matches!(entry, Entry::Write { .. })),
            count(|entry| matches!(entry, Entry::Flush)),
            count(|entry| matches!(entry, Entry::Acknowledged(_))),
            begun.elapsed().as_secs_f64()
        );
        Ok(Recording {
            medium,
            entries,
            found,
            history,
        })
    }

    /// A disk that lost power in the middle of a recording.
    fn cut_in_half(&self, recording: &Recording) -> Vec<u8> {
        let mut player = Player::new(recording, Flushes::Count);
        let mut disk = Disk::new(recording.medium.clone());
        player.play(recording.entries.len() / 2, &mut disk);
        disk.cut(Kind::Torn, &player.cached, &mut Rng::with_seed(self.seed));
        disk.image()
    }

    /// Rebuilds so many states of a recording, and looks at the store in each.
    async fn look_at(
        &self,
        recording: &Recording,
        states: usize,
        flushes: Flushes,
        totals: &mut Totals,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut rng = Rng::with_seed(self.seed);
        let disk = Arc::new(Mutex::new(Disk::new(recording.medium.clone())));
        let file = Mounted::new(&self.folder.join("rebuilt"), Arc::clone(&disk))?;
        let mut player = Player::new(recording, flushes);
        let points = points(&recording.entries, states.div_ceil(KINDS.len()), &mut rng);
        let (mut looked_at, before) = (0, totals.violations());
        for point in points {
            player.play(point, &mut disk.lock());
            for kind in KINDS {
                {
                    let mut disk = disk.lock();
                    disk.take_back();
                    disk.cut(kind, &player.cached, &mut rng);
                }
                let problem = self.state(&file, recording, &player.told, &mut rng).await?;
                looked_at += 1;
                let violations = totals.add(kind, problem.is_some());
                if let Some(problem) = problem
                    && violations <= TOLD_MAX
                {
                    println!(
                        "VIOLATION after {point} of {} entries, {kind:?}: {problem}",
                        recording.entries.len()
                    );
                }
            }
            disk.lock().take_back();
        }
        println!(
            "  {looked_at} states in {:.0} s, {} violations",
            begun.elapsed().as_secs_f64(),
            totals.violations() - before
        );
        Ok(())
    }

    /// Mounts one state and looks at its store.
    async fn state(
        &self,
        file: &Mounted,
        recording: &Recording,
        told: &Acknowledged,
        rng: &mut Rng,
    ) -> anyhow::Result<Option<String>> {
        let mounted = self.folder.join("mounted");
        let ext4 = match Ext4::mount(&file.file(), &mounted) {
            Ok(ext4) => ext4,
            Err(error) => return Ok(Some(format!("the file system: {error}"))),
        };
        let problem = check::problem(&mounted, &recording.history, told, rng).await;
        ext4.unmount().await?;
        Ok(problem)
    }
}

/// Goes through a recording, and knows what is durable at a point.
struct Player<'a> {
    recording: &'a Recording,
    flushes: Flushes,
    done: usize,
    cached: Vec<(usize, &'a [u8])>,
    told: Acknowledged,
}

impl<'a> Player<'a> {
    fn new(recording: &'a Recording, flushes: Flushes) -> Self {
        Self {
            recording,
            flushes,
            done: 0,
            cached: Vec::new(),
            told: Acknowledged::since(recording.found),
        }
    }

    /// Goes on to a point; what is durable then is on the disk.
    fn play(&mut self, point: usize, disk: &mut Disk<Told>) {
        for entry in &self.recording.entries[self.done..point] {
            match entry {
                Entry::Write { at, data } => self.cached.push((*at, data)),
                Entry::Flush if self.flushes == Flushes::Count => {
                    for (at, data) in self.cached.drain(..) {
                        disk.settle(at, data);
                    }
                }
                Entry::Flush => {}
                Entry::Acknowledged(told) => self.told.add(told),
            }
        }
        self.done = point;
    }
}

/// Half of them anywhere, half right after an acknowledgement, where a loss shows first.
fn points<A>(entries: &[Entry<A>], count: usize, rng: &mut Rng) -> Vec<usize> {
    let after: Vec<usize> = (1..=entries.len())
        .filter(|point| matches!(entries[point - 1], Entry::Acknowledged(_)))
        .collect();
    let mut points: Vec<usize> = (0..count)
        .map(|number| match number % 2 {
            0 if !after.is_empty() => after[rng.usize(..after.len())],
            _ => rng.usize(1..=entries.len()),
        })
        .collect();
    points.sort_unstable();
    points
}
