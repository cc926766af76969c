//! Bytes between network namespaces: how many a second, how long there and back, how long to connect.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use linux::NetworkNamespace;

const BUFFER_BYTES: usize = 128 * 1024;
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// What a client asks a sink for, in one byte.
const STREAM: u8 = b's';
const ECHO: u8 = b'e';

/// Takes or sends back what comes to a port of a namespace, for as long as this process lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sink {
    pub(crate) port: u16,
}

impl Sink {
    pub(crate) fn in_namespace(namespace: &NetworkNamespace) -> anyhow::Result<Self> {
        let listener = namespace.run(|| TcpListener::bind(("0.0.0.0", 0)))??;
        let port = listener.local_addr()?.port();
        // The socket is of that namespace, whichever thread accepts.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || drop(serve(stream)));
            }
        });
        Ok(Self { port })
    }

    pub(crate) fn at(self, address: &str) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(address.parse::<IpAddr>()?, self.port))
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut asked = [0];
    // Who only wanted to connect closes without a byte.
    if stream.read(&mut asked)? == 0 {
        return Ok(());
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.write_all(&asked);
        }
        if asked == [ECHO] {
            stream.write_all(&buffer[..count])?;
        }
    }
}

/// Sends as much as one connection takes in that time; returns megabits a second of what has arrived.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn throughput(
    from: &NetworkNamespace,
    to: SocketAddr,
    time: Duration,
) -> anyhow::Result<f64> {
    let mut stream = connected(from, to)?;
    stream.write_all(&[STREAM])?;
    let buffer = vec![0; BUFFER_BYTES];
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < time {
        stream.write_all(&buffer)?;
        sent += buffer.len();
    }
    stream.shutdown(Shutdown::Write)?;
    // The other side says when it has read all.
    stream.read_exact(&mut [0])?;
    Ok(sent as f64 * 8.0 / 1e6 / begun.elapsed().as_secs_f64())
}

/// The times of one byte there and back, in microseconds.
pub(crate) fn round_trips(
    from: &NetworkNamespace,
    to: SocketAddr,
    count: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut stream = connected(from, to)?;
    stream.write_all(&[ECHO])?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        stream.write_all(&[0])?;
        stream.read_exact(&mut [0])?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// The times of so many connections, in microseconds, taken in turn to each of the addresses.
pub(crate) fn connects<const PLACES: usize>(
    from: &NetworkNamespace,
    to: [SocketAddr; PLACES],
    count: usize,
) -> anyhow::Result<[Vec<f64>; PLACES]> {
    let mut times = [const { Vec::new() }; PLACES];
    from.run(|| {
        for _ in 0..count {
            for (times, address) in times.iter_mut().zip(&to) {
                let begun = Instant::now();
                let mut stream = TcpStream::connect_timeout(address, CONNECT_MAX)
                    .with_context(|| format!("connect to {address}, {} before", times.len()))?;
                times.push(begun.elapsed().as_secs_f64() * 1e6);
                // The other side has taken it and let go of it: its queue never fills.
                stream.shutdown(Shutdown::Write)?;
                stream.read_to_end(&mut Vec::new())?;
            }
        }
        anyhow::Ok(())
    })??;
    Ok(times)
}

/// Whether a connection comes about.
pub(crate) fn connects_once(from: &NetworkNamespace, to: SocketAddr) -> bool {
    let connect = || TcpStream::connect_timeout(&to, CONNECT_MAX).is_ok();
    from.run(connect).unwrap_or(false)
}

fn connected(from: &NetworkNamespace, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = from.run(|| TcpStream::connect_timeout(&to, CONNECT_MAX))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
