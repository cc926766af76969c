//! A table that is kept as its owner wants it: what should be there is one plain value, and the difference to what was
//! sent last is committed as one atomic batch.

use super::{Batch, GROUP_CHANGES, NfTablesSocket, Ownership, Ruleset};
use crate::NetworkNamespace;
use crate::netlink::{NetlinkError, Protocol, Socket};
use std::io;

/// A table of the family `inet`.
///
/// Where the kernel can (6.9), it belongs to this value alone and `nft flush ruleset` leaves it standing; it outlives
/// the process, and the next one adopts it.
#[derive(Debug)]
pub struct KeptTable {
    name: String,
    namespace: NetworkNamespace,
    socket: NfTablesSocket,
    ownership: Ownership,
    /// What the kernel has; nothing if that is unknown.
    applied: Option<Ruleset>,
    /// The kernel's number of the table, another one for each table that is made.
    handle: Option<u64>,
}

/// What an `apply` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub change: Change,
    /// Bytes sent to the kernel.
    pub bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Difference,
    /// The table was made anew.
    Everything,
}

impl KeptTable {
    /// Belongs to the network namespace of the calling thread. Changes nothing yet; a table of an earlier process goes
    /// on working until the first `apply`.
    pub fn open(name: &str, ownership: Ownership) -> Result<Self, NetlinkError> {
        let namespace =
            NetworkNamespace::current().map_err(socket("open the network namespace"))?;
        Ok(Self {
            name: name.to_owned(),
            namespace,
            socket: NfTablesSocket::open()?,
            ownership,
            applied: None,
            handle: None,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the kernel has a table of this name, whoever made it.
    pub fn exists(&mut self) -> Result<bool, NetlinkError> {
        Ok(self.socket.table(&self.name)?.is_some())
    }

    /// What the kernel has; nothing if that is unknown.
    pub fn applied(&self) -> Option<&Ruleset> {
        self.applied.as_ref()
    }

    /// Brings the kernel to what is wanted: all of it or, with an error, nothing.
    pub fn apply(&mut self, wanted: Ruleset) -> Result<Applied, NetlinkError> {
        if let Some(applied) = self.applied.take() {
            match self.apply_difference(&applied, &wanted) {
                Ok(done) => {
                    self.applied = Some(wanted);
                    return Ok(done);
                }
                // Somebody changed the table, or answers were lost: what the kernel has is unknown.
                Err(error) => {
                    tracing::warn!(%error, table = self.name, "the table is made anew");
                    self.reopen()?;
                }
            }
        }
        let done = self.replace(&wanted)?;
        self.applied = Some(wanted);
        Ok(done)
    }

    /// Whether the kernel still has the table that was applied, and not one that was made anew by somebody else.
    pub fn is_intact(&mut self) -> Result<bool, NetlinkError> {
        let found = self.socket.table(&self.name)?;
        Ok(found.is_some() && found.map(|table| table.handle) == self.handle)
    }

    /// Forgets what the kernel has, so that the next `apply` makes the table anew.
    pub fn distrust(&mut self) {
        self.applied = None;
    }

    /// Whether others can change the table, so that it has to be watched.
    pub fn is_shared(&self) -> bool {
        self.ownership == Ownership::Shared
    }

    /// A socket that hears of changes of all tables, this one's own ones too.
    pub(super) fn watch(&self) -> Result<Socket, NetlinkError> {
        let open = || {
            let socket = Socket::open(Protocol::NetFilter)?;
            socket.join(GROUP_CHANGES)?;
            Ok(socket)
        };
        self.namespace
            .run(open)
            .map_err(socket("enter the network namespace"))?
    }

    /// The port id of the own socket, by which its own notifications are known.
    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Removes a table, if it is there. While another process keeps it as its own the kernel refuses.
    ///
    /// Works in the network namespace of the calling thread.
    pub fn remove(name: &str) -> Result<(), NetlinkError> {
        let mut socket = NfTablesSocket::open()?;
        let Some(found) = socket.table(name)? else {
            return Ok(());
        };
        if found.ownership == Ownership::Exclusive {
            adopt(&mut socket, name)?;
        }
        let mut batch = Batch::new(name);
        batch.delete_table();
        socket.commit(batch)
    }

    fn apply_difference(
        &mut self,
        applied: &Ruleset,
        wanted: &Ruleset,
    ) -> Result<Applied, NetlinkError> {
        let mut batch = Batch::new(&self.name);
        batch.change(applied, wanted);
        if batch.is_empty() {
            let change = Change::Nothing;
            return Ok(Applied { change, bytes: 0 });
        }
        let bytes = batch.bytes();
        self.socket.commit(batch)?;
        let change = Change::Difference;
        Ok(Applied { change, bytes })
    }

    /// Makes the table anew in one batch; there is no moment without it.
    fn replace(&mut self, wanted: &Ruleset) -> Result<Applied, NetlinkError> {
        match self.replace_as(wanted, self.ownership) {
            Err(error)
                if self.ownership == Ownership::Exclusive
                    && (error.is_refusal(libc::EOPNOTSUPP) || error.is_refusal(libc::EINVAL)) =>
            {
                tracing::info!(
                    "this kernel has no tables that outlive their owner; the table is shared"
                );
                self.ownership = Ownership::Shared;
                self.replace_as(wanted, Ownership::Shared)
            }
            other => other,
        }
    }

    fn replace_as(
        &mut self,
        wanted: &Ruleset,
        ownership: Ownership,
    ) -> Result<Applied, NetlinkError> {
        let mut batch = Batch::new(&self.name);
        if let Some(found) = self.socket.table(&self.name)? {
            if found.ownership == Ownership::Exclusive {
                adopt(&mut self.socket, &self.name)?;
            }
            batch.delete_table();
        }
        batch.add_table(ownership);
        batch.change(&Ruleset::default(), wanted);
        let bytes = batch.bytes();
        self.socket.commit(batch)?;
        self.handle = self.socket.table(&self.name)?.map(|table| table.handle);
        let change = Change::Everything;
        Ok(Applied { change, bytes })
    }

    fn reopen(&mut self) -> Result<(), NetlinkError> {
        let opened = self.namespace.run(NfTablesSocket::open);
        self.socket = opened.map_err(socket("enter the network namespace"))??;
        Ok(())
    }
}

fn adopt(socket: &mut NfTablesSocket, table: &str) -> Result<(), NetlinkError> {
    let mut batch = Batch::new(table);
    batch.add_table(Ownership::Exclusive);
    socket.commit(batch)
}

fn socket(doing: &'static str) -> impl Fn(io::Error) -> NetlinkError {
    move |source| NetlinkError::Socket { doing, source }
}
