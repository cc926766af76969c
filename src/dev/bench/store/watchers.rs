//! How long a put takes to reach every one of many watchers.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{Buf as _, BytesMut};

use super::puts::{self, VALUE_BYTES};
use super::wire::{Last, Received, Wire, put_bytes};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(crate) const WATCHERS: usize = 1000;
const CONNECTIONS: usize = 20;
const PUTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);
/// How long all events may take to arrive.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Stands before the time in a value.
const MARK: &[u8] = b"\xffsent at\xff";
/// A message's prefix: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The times from before a put to the arrival at each watcher.
pub(crate) async fn measure(port: u16) -> anyhow::Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let (ready, mut started) = tokio::sync::mpsc::channel(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let wire = Wire::connect(port).await?;
        tasks.spawn(watch(wire, begun, ready.clone()));
    }
    for _ in 0..CONNECTIONS {
        started
            .recv()
            .await
            .context("a connection of watchers ended")?;
    }
    let mut writer = Wire::connect(port).await?;
    for number in 0..PUTS {
        let sent = u64::try_from(begun.elapsed().as_nanos())?.to_le_bytes();
        let mut value = [MARK, &sent].concat();
        value.resize(VALUE_BYTES, b'x');
        puts::one(&mut writer, number, &value).await?;
        env::sleep(PAUSE).await;
    }
    let all = async {
        let mut latencies = Vec::new();
        while let Some(seen) = tasks.join_next().await {
            latencies.extend(seen??);
        }
        anyhow::Ok(latencies)
    };
    env::timeout(TIME_MAX, all)
        .await
        .context("some events never came")?
}

/// One connection's part of the watchers, each a call of its own.
async fn watch(
    mut wire: Wire,
    begun: Instant,
    ready: tokio::sync::mpsc::Sender<()>,
) -> anyhow::Result<Vec<Duration>> {
    const STREAMS: usize = WATCHERS / CONNECTIONS;
    let (mut create, mut message) = (Vec::new(), Vec::new());
    put_bytes(&mut create, 1, b"/registry/bench/");
    put_bytes(&mut create, 2, b"/registry/bench0");
    put_bytes(&mut message, 1, &create);
    for _ in 0..STREAMS {
        wire.call(WATCH, &message, Last::No);
    }
    wire.flush().await?;
    let mut streams = vec![BytesMut::new(); STREAMS];
    let (mut created, mut latencies, mut seen) = (0, Vec::new(), Vec::new());
    while latencies.len() < PUTS * STREAMS {
        wire.receive(&mut seen).await?;
        let now = begun.elapsed();
        for received in seen.drain(..) {
            let Received::Data { stream, bytes } = received else {
                anyhow::bail!("the server ended a watch");
            };
            let text = &mut streams[stream as usize / 2];
            text.extend_from_slice(&bytes);
            while let Some(message) = next_message(text) {
                let before = latencies.len();
                latencies.extend(sent_at(&message).map(|sent| now.saturating_sub(sent)));
                created += usize::from(latencies.len() == before);
                if created == STREAMS && latencies.is_empty() {
                    ready.send(()).await?;
                }
            }
        }
        wire.flush().await?;
    }
    Ok(latencies)
}

fn next_message(stream: &mut BytesMut) -> Option<BytesMut> {
    let length = stream.get(1..PREFIX_BYTES)?.try_into().ok()?;
    let end = PREFIX_BYTES + u32::from_be_bytes(length) as usize;
    if stream.len() < end {
        return None;
    }
    let mut message = stream.split_to(end);
    message.advance(PREFIX_BYTES);
    Some(message)
}

/// The times in all values of a message.
fn sent_at(message: &[u8]) -> impl Iterator<Item = Duration> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let at = rest.windows(MARK.len()).position(|window| window == MARK)?;
        rest = &rest[at + MARK.len()..];
        let nanos = rest.first_chunk().copied()?;
        Some(Duration::from_nanos(u64::from_le_bytes(nanos)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_message_tells_when_it_was_sent() {
        let value = [MARK, &7u64.to_le_bytes()].concat();
        let message = [&b"key"[..], &value, b"between", &value].concat();
        let sent: Vec<_> = sent_at(&message).collect();
        assert_eq!(sent, [Duration::from_nanos(7); 2]);
    }
}
