//! Durable puts by callers that each wait for their answer before they send the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::wire::{Last, Received, Wire, put_bytes};

const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
/// Connections at most; more callers share them.
const CONNECTIONS_MAX: usize = 100;
pub(crate) const VALUE_BYTES: usize = 1024;
/// What is around a value in a request, at most.
const OVERHEAD_BYTES_MAX: usize = 256;
pub(crate) const STRIDE: usize = 7919;

/// Which keys are written, and until when.
#[derive(Clone)]
pub(crate) enum Work {
    /// Any of so many keys, for so long.
    Among(usize, Duration),
    /// Each of so many keys once.
    Each(usize),
    /// Keys that are not there yet, from this one on, for so long: the only way to write that kine knows.
    Create(usize, Duration),
}

/// What the callers saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) latencies: Vec<Duration>,
    pub(crate) took: Duration,
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

/// The value below which this part of all lies; in milliseconds.
pub(crate) fn percentile(latencies: &mut [Duration], part: f64) -> f64 {
    latencies.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "counts are small"
    )]
    let at = ((latencies.len() as f64 * part) as usize).min(latencies.len().saturating_sub(1));
    latencies
        .get(at)
        .map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
}

/// Lets `callers` put at once until the work is done.
pub(crate) async fn run(port: u16, callers: usize, work: Work) -> anyhow::Result<Seen> {
    let connections = callers.min(CONNECTIONS_MAX);
    let next = Arc::new(AtomicUsize::new(0));
    let mut wires = Vec::new();
    for _ in 0..connections {
        wires.push(Wire::connect(port).await?);
    }
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, wire) in wires.into_iter().enumerate() {
        let mine = callers / connections + usize::from(number < callers % connections);
        let keys = Keys {
            work: work.clone(),
            next: Arc::clone(&next),
            begun,
        };
        tasks.spawn(connection(wire, mine, keys));
    }
    let mut seen = Seen::default();
    while let Some(done) = tasks.join_next().await {
        seen.latencies.extend(done??);
    }
    seen.took = begun.elapsed();
    Ok(seen)
}

struct Keys {
    work: Work,
    next: Arc<AtomicUsize>,
    begun: Instant,
}

impl Keys {
    fn next(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match self.work {
            // A stride that meets every key before it meets one again, and no neighbours one after the other.
            Work::Among(keys, span) => {
                (self.begun.elapsed() < span).then_some(number.wrapping_mul(STRIDE) % keys)
            }
            Work::Each(keys) => (number < keys).then_some(number),
            Work::Create(first, span) => (self.begun.elapsed() < span).then_some(first + number),
        }
    }

    fn call(&self, wire: &mut Wire, number: usize, value: &[u8]) -> u32 {
        let key = format!("/registry/bench/{number:08}");
        match self.work {
            Work::Create(..) => wire.call(TXN, &create_request(&key, value), Last::Yes),
            Work::Among(..) | Work::Each(_) => wire.call(PUT, &put_request(&key, value), Last::Yes),
        }
    }
}

fn put_request(key: &str, value: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(value.len() + OVERHEAD_BYTES_MAX);
    put_bytes(&mut message, 1, key.as_bytes());
    put_bytes(&mut message, 2, value);
    message
}

/// A transaction: if the key's mod revision is 0, put it, else read it.
fn create_request(key: &str, value: &[u8]) -> Vec<u8> {
    const TARGET_IS_MOD_REVISION: [u8; 2] = [0x10, 2];
    const MOD_REVISION_ZERO: [u8; 2] = [0x30, 0];
    let mut compare = TARGET_IS_MOD_REVISION.to_vec();
    put_bytes(&mut compare, 3, key.as_bytes());
    compare.extend(MOD_REVISION_ZERO);
    let (mut success, mut range, mut failure, mut message) = Default::default();
    put_bytes(&mut success, 2, &put_request(key, value));
    put_bytes(&mut range, 1, key.as_bytes());
    put_bytes(&mut failure, 1, &range);
    put_bytes(&mut message, 1, &compare);
    put_bytes(&mut message, 2, &success);
    put_bytes(&mut message, 3, &failure);
    message
}

/// One connection with some callers.
async fn connection(mut wire: Wire, callers: usize, keys: Keys) -> anyhow::Result<Vec<Duration>> {
    let value = [b'x'; VALUE_BYTES];
    let mut latencies = Vec::new();
    let mut running: Vec<Call> = Vec::new();
    let (mut free, mut ended) = (callers, false);
    let mut seen = Vec::new();
    loop {
        while free > 0 && !ended && wire.takes(VALUE_BYTES + OVERHEAD_BYTES_MAX) {
            let Some(number) = keys.next() else {
                ended = true;
                break;
            };
            free -= 1;
            let stream = keys.call(&mut wire, number, &value);
            running.push(Call {
                stream,
                sent: Instant::now(),
                answered: false,
            });
        }
        wire.flush().await?;
        if running.is_empty() && ended {
            return Ok(latencies);
        }
        wire.receive(&mut seen).await?;
        for received in seen.drain(..) {
            match received {
                Received::Data { stream, .. } => {
                    running
                        .iter_mut()
                        .filter(|call| call.stream == stream)
                        .for_each(|call| call.answered = true);
                }
                Received::End { stream } => {
                    let at = running.iter().position(|call| call.stream == stream);
                    let Some(at) = at else { continue };
                    let call = running.swap_remove(at);
                    // An error has trailers and no message.
                    if !call.answered {
                        bail!("the server refused a put");
                    }
                    latencies.push(call.sent.elapsed());
                    free += 1;
                }
            }
        }
    }
}

struct Call {
    stream: u32,
    sent: Instant,
    answered: bool,
}

/// Puts one after the other with a pause between them, as a quiet cluster writes.
pub(crate) async fn trickle(port: u16, count: usize, pause: Duration) -> anyhow::Result<()> {
    let mut wire = Wire::connect(port).await?;
    for number in 0..count {
        one(&mut wire, number % 100, &[b'x'; VALUE_BYTES]).await?;
        env::sleep(pause).await;
    }
    Ok(())
}

/// One put and its answer.
pub(crate) async fn one(wire: &mut Wire, number: usize, value: &[u8]) -> anyhow::Result<()> {
    let key = format!("/registry/bench/{number:08}");
    wire.call(PUT, &put_request(&key, value), Last::Yes);
    answered(wire).await
}

/// Makes a key, or finds that it is there.
pub(crate) async fn create(wire: &mut Wire) -> anyhow::Result<()> {
    wire.call(TXN, &create_request("/registry/probe", b""), Last::Yes);
    answered(wire).await
}

/// Waits for the answer of the only call.
async fn answered(wire: &mut Wire) -> anyhow::Result<()> {
    wire.flush().await?;
    let (mut answered, mut seen) = (false, Vec::new());
    loop {
        wire.receive(&mut seen).await?;
        for received in seen.drain(..) {
            match received {
                Received::Data { .. } => answered = true,
                Received::End { .. } if answered => return Ok(()),
                Received::End { .. } => bail!("the server refused a put"),
            }
        }
    }
}
