//! Notices when somebody else changes a table. Needed only where the kernel cannot keep others away from it.

use super::{KeptTable, changed_table};
use crate::netlink::{NetlinkError, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A socket that hears of every change of every table.
#[derive(Debug)]
pub struct Drift(AsyncFd<Socket>);

/// What the queued notifications say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    NothingOfOurs,
    OurTable,
    /// Some were lost, perhaps to a large change of our own.
    TooMuch,
}

impl Drift {
    /// Hears of changes from now on. Must be called within a runtime.
    pub fn watch(table: &KeptTable) -> Result<Self, NetlinkError> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; a socket keeps its descriptor for its whole life"
        )]
        let watched = AsyncFd::with_interest(table.watch()?, Interest::READABLE);
        let doing = "watch the nf_tables notifications";
        watched
            .map(Self)
            .map_err(|source| NetlinkError::Socket { doing, source })
    }

    /// Returns once somebody else changed the table; cancel safe.
    pub async fn disturbed(&mut self, table: &mut KeptTable) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                return std::future::pending().await;
            };
            let heard = listen(ready.get_inner(), table);
            ready.clear_ready();
            match heard {
                Heard::NothingOfOurs => {}
                Heard::TooMuch if table.is_intact().unwrap_or(false) => {}
                Heard::OurTable | Heard::TooMuch => return,
            }
        }
    }
}

fn listen(socket: &Socket, table: &KeptTable) -> Heard {
    let mut heard = Heard::NothingOfOurs;
    let result = socket.notifications(|message| {
        if changed_table(message) == Some(table.name()) && message.port != table.port() {
            heard = Heard::OurTable;
        }
    });
    match result {
        Err(NetlinkError::Overrun) => Heard::TooMuch,
        _ => heard,
    }
}
