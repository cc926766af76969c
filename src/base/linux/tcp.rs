//! Connections that end when nobody is at the other side any more.

use crate::error::{Doing, Result};
use rustix::net::sockopt;
use std::os::fd::AsFd;
use std::time::Duration;

/// Ends the connection when what was sent is not taken for `time`: neither acknowledged, nor wanted because the other side does not
/// read what it got before. Only for peers that always read.
pub fn end_if_not_taken(connection: impl AsFd, time: Duration) -> Result<()> {
    let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let limit = || format!("limit the time of what is sent to {milliseconds} ms");
    sockopt::set_tcp_user_timeout(connection, milliseconds).doing(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_peer_that_takes_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        end_if_not_taken(&connection, Duration::from_millis(200)).unwrap();
        let (_never_reads, _) = listener.accept().unwrap();
        let error = loop {
            if let Err(error) = connection.write_all(&vec![0; 65_536]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }
}
