//! What a stream is for, and how both ends say so: one frame from the server, one answer from the agent.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// An answer's text is cut to this.
const REFUSAL_BYTES_MAX: usize = 512;
/// The longest address in text: `[ffff:…:ffff%4294967295]:65535`.
const ADDRESS_BYTES_MAX: usize = 64;

const PING: u8 = 0;
const KUBELET: u8 = 1;
const ADDRESS: u8 = 2;

const OPENED: u8 = 0;
const REFUSED: u8 = 1;

/// Where a stream through a tunnel leads on the agent's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere: the agent answers, which shows that the connection lives.
    Ping,
    /// The node's own kubelet, whatever port it has.
    Kubelet,
    /// A TCP address of a pod or Service, seen from the node.
    Address(SocketAddr),
}

/// Asks for `target` on a fresh stream; an error of kind `ConnectionRefused` carries the agent's own words.
pub(crate) async fn ask<S>(stream: &mut S, target: Target) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&encode(target)).await?;
    stream.flush().await?;
    if stream.read_u8().await? == OPENED {
        return Ok(());
    }
    let length = usize::from(stream.read_u16().await?).min(REFUSAL_BYTES_MAX);
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, text))
}

/// Reads what a stream is for.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Target> {
    match stream.read_u8().await? {
        PING => Ok(Target::Ping),
        KUBELET => Ok(Target::Kubelet),
        ADDRESS => {
            let length = usize::from(stream.read_u8().await?);
            if length > ADDRESS_BYTES_MAX {
                return Err(malformed(&format!("an address of {length} bytes")));
            }
            let mut text = vec![0; length];
            stream.read_exact(&mut text).await?;
            let address = std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok());
            address
                .map(Target::Address)
                .ok_or_else(|| malformed("an address that is none"))
        }
        other => Err(malformed(&format!("a target of kind {other}"))),
    }
}

/// Says that the stream leads where it was asked to.
pub(crate) async fn accept(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(&[OPENED]).await?;
    stream.flush().await
}

/// Says why the stream leads nowhere.
pub(crate) async fn refuse(stream: &mut (impl AsyncWrite + Unpin), why: &str) -> io::Result<()> {
    let text = &why.as_bytes()[..why.len().min(REFUSAL_BYTES_MAX)];
    let length = u16::try_from(text.len()).expect("a refusal is cut to 512 bytes");
    let mut answer = vec![REFUSED];
    answer.extend(length.to_be_bytes());
    answer.extend(text);
    stream.write_all(&answer).await?;
    stream.flush().await
}

fn encode(target: Target) -> Vec<u8> {
    match target {
        Target::Ping => vec![PING],
        Target::Kubelet => vec![KUBELET],
        Target::Address(address) => {
            let text = address.to_string();
            let length = u8::try_from(text.len()).expect("an address has at most 64 bytes");
            let mut frame = vec![ADDRESS, length];
            frame.extend(text.as_bytes());
            frame
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server asked for {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_what_is_read() {
        let targets = [
            Target::Ping,
            Target::Kubelet,
            Target::Address("10.42.1.7:8080".parse().expect("an address")),
            Target::Address("[fd00::1]:443".parse().expect("an address")),
        ];
        for target in targets {
            let frame = encode(target);
            assert_eq!(read(&mut frame.as_slice()).await.expect("a target"), target);
        }
    }

    #[tokio::test]
    async fn what_is_no_target_is_refused() {
        let frames: [&[u8]; 5] = [&[], &[9], &[ADDRESS], &[ADDRESS, 3, b'a'], &[ADDRESS, 255]];
        for mut frame in frames {
            assert!(read(&mut frame).await.is_err(), "{frame:?}");
        }
    }
}
