//! Netlink over blocking sockets: every answer of the kernel is matched to its request, and a lost answer is an error.
//!
//! Requests are answered by the kernel while it handles `send`, so a blocking call costs microseconds; only the removal
//! of a link waits for the kernel. A socket belongs for ever to the network namespace of the thread that opened it.

mod attributes;
pub mod conntrack;
pub mod ethtool;
mod generic;
pub mod nf_tables;
pub mod route;
mod socket;
pub mod wireguard;

pub use attributes::{Attributes, Message, Request};
pub use socket::{Protocol, Reply, Socket};

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("{doing}: {source}")]
    Socket {
        doing: &'static str,
        source: std::io::Error,
    },
    /// The kernel refused a request; `number` is its errno, `text` its own explanation where it gave one.
    #[error("the kernel refused {doing}: {}{}", errno_text(*number), explanation(text.as_deref()))]
    Refused {
        doing: String,
        number: i32,
        text: Option<String>,
    },
    /// Answers were lost (ENOBUFS): what the kernel did is unknown and the socket is no longer usable.
    #[error("answers of the kernel were lost; its state is unknown")]
    Overrun,
    #[error("the kernel sent a message that makes no sense")]
    Malformed,
}

impl NetlinkError {
    /// Whether the kernel refused with this errno (`libc::EEXIST` and so on).
    pub fn is_refusal(&self, errno: i32) -> bool {
        matches!(self, Self::Refused { number, .. } if *number == errno)
    }
}

/// musl has no good words for several of the numbers that netlink uses.
fn errno_text(number: i32) -> String {
    match number {
        libc::ENOENT => "no such object".to_owned(),
        libc::EEXIST => "it exists already, with other content".to_owned(),
        libc::EBUSY => "it is still referenced".to_owned(),
        libc::ERANGE => "a value is out of range".to_owned(),
        libc::ERESTART => "the ruleset changed meanwhile".to_owned(),
        libc::EOPNOTSUPP => "the kernel does not support it".to_owned(),
        libc::ENODATA => "a register is read before it is loaded".to_owned(),
        other => std::io::Error::from_raw_os_error(other).to_string(),
    }
}

fn explanation(text: Option<&str>) -> String {
    text.map(|text| format!(" ({text})")).unwrap_or_default()
}
