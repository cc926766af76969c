//! Notices when somebody else changes the table. Needed only where the kernel cannot keep others away from it.

use crate::error::Error;
use crate::proxy::ServiceProxy;
use linux::netlink::nf_tables::changed_table;
use linux::netlink::{NetlinkError, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A socket that hears of every change of every table.
#[derive(Debug)]
pub(crate) struct Drift(AsyncFd<Socket>);

/// What the queued notifications say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    NothingOfOurs,
    OurTable,
    /// Some were lost, perhaps to a large change of our own.
    TooMuch,
}

impl Drift {
    /// Must be called within a runtime.
    pub(crate) fn new(socket: Socket) -> Result<Self, Error> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; a socket keeps its descriptor for its whole life"
        )]
        let watched = AsyncFd::with_interest(socket, Interest::READABLE);
        watched.map(Self).map_err(|source| Error::System {
            doing: "watch the nf_tables notifications",
            source,
        })
    }

    /// Returns once somebody else changed the table; cancel safe.
    pub(crate) async fn disturbed(&mut self, proxy: &mut ServiceProxy) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                return std::future::pending().await;
            };
            let heard = listen(ready.get_inner(), proxy);
            ready.clear_ready();
            match heard {
                Heard::NothingOfOurs => {}
                Heard::TooMuch if proxy.is_intact().unwrap_or(false) => {}
                Heard::OurTable | Heard::TooMuch => return,
            }
        }
    }
}

fn listen(socket: &Socket, proxy: &ServiceProxy) -> Heard {
    let mut heard = Heard::NothingOfOurs;
    let result = socket.notifications(|message| {
        if changed_table(message) == Some(proxy.table()) && message.port != proxy.port() {
            heard = Heard::OurTable;
        }
    });
    match result {
        Err(NetlinkError::Overrun) => Heard::TooMuch,
        _ => heard,
    }
}
