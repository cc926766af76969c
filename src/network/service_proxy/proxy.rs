//! The one place that touches the kernel: one table, changed by one atomic batch at a time.

use crate::difference::{change, stale_flows};
use crate::error::Error;
use crate::facts::{Desired, NodeFacts};
use crate::plan::plan;
use crate::ruleset::Ruleset;
use linux::NetworkNamespace;
use linux::netlink::conntrack::ConntrackSocket;
use linux::netlink::nf_tables::{Batch, GROUP_CHANGES, NfTablesSocket, Ownership};
use linux::netlink::{NetlinkError, Protocol, Socket};

/// The Services of a node in the kernel.
///
/// Where the kernel can (6.9), the table belongs to this proxy alone and `nft flush ruleset` leaves it standing; it
/// outlives the process, and the next one adopts it.
#[derive(Debug)]
pub struct ServiceProxy {
    table: String,
    namespace: NetworkNamespace,
    socket: NfTablesSocket,
    flows: ConntrackSocket,
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

impl ServiceProxy {
    /// Opens the proxy of an instance in the network namespace of the calling thread. Changes nothing yet; a table of an
    /// earlier process goes on working until the first `apply`.
    pub fn open(instance: &str) -> Result<Self, Error> {
        Self::open_with(instance, Ownership::Exclusive)
    }

    /// As `open`; with `Shared` the table is everybody's, as it is on kernels before 6.9.
    pub fn open_with(instance: &str, ownership: Ownership) -> Result<Self, Error> {
        let namespace = NetworkNamespace::current().map_err(|source| Error::System {
            doing: "open the node's network namespace",
            source,
        })?;
        Ok(Self {
            table: table_name(instance),
            namespace,
            socket: NfTablesSocket::open().map_err(netlink("open an nf_tables socket"))?,
            flows: ConntrackSocket::open().map_err(netlink("open a conntrack socket"))?,
            ownership,
            applied: None,
            handle: None,
        })
    }

    /// The table's name in the kernel: `combo-<instance>`, family `inet`.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Brings the kernel to what is desired: all of it or, with an error, nothing. Blocks for microseconds for one
    /// endpoint and a tenth of a second for ten thousand Services.
    pub fn apply(&mut self, desired: &Desired, node: &NodeFacts) -> Result<Applied, Error> {
        self.apply_ruleset(plan(desired, node))
    }

    /// After a boot, makes the table without Services, so that pods reach the world before the API does; a table that is
    /// there is left alone.
    pub fn prepare(&mut self, node: &NodeFacts) -> Result<(), Error> {
        let found = self
            .socket
            .table(&self.table)
            .map_err(netlink("find the table"))?;
        if found.is_none() {
            self.apply(&Desired::default(), node)?;
        }
        Ok(())
    }

    fn apply_ruleset(&mut self, wanted: Ruleset) -> Result<Applied, Error> {
        if let Some(applied) = self.applied.take() {
            match self.apply_difference(&applied, &wanted) {
                Ok(done) => return Ok(self.finish(Some(&applied), wanted, done)),
                // Somebody changed the table, or answers were lost: what the kernel has is unknown.
                Err(error) => {
                    tracing::warn!(%error, table = self.table, "the table is made anew");
                    self.reopen()?;
                }
            }
        }
        let done = self.replace(&wanted)?;
        Ok(self.finish(None, wanted, done))
    }

    /// Whether the kernel still has the table that was applied, and not one that was made anew by somebody else.
    pub fn is_intact(&mut self) -> Result<bool, Error> {
        let found = self
            .socket
            .table(&self.table)
            .map_err(netlink("find the table"))?;
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

    /// A socket that hears of changes of all tables, this proxy's own ones too.
    pub(crate) fn watch(&self) -> Result<Socket, Error> {
        let open = || {
            let socket = Socket::open(Protocol::NetFilter)?;
            socket.join(GROUP_CHANGES)?;
            Ok(socket)
        };
        let socket = self.namespace.run(open).map_err(|source| Error::System {
            doing: "enter the network namespace",
            source,
        })?;
        socket.map_err(netlink("hear of changes of tables"))
    }

    /// The port id of the proxy's own socket, by which its own notifications are known.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Removes the table of an instance. With a running proxy of that instance the kernel refuses it.
    ///
    /// Works in the network namespace of the calling thread.
    pub fn clean_up(instance: &str) -> Result<(), Error> {
        let table = table_name(instance);
        let mut socket = NfTablesSocket::open().map_err(netlink("open an nf_tables socket"))?;
        let Some(found) = socket.table(&table).map_err(netlink("find the table"))? else {
            return Ok(());
        };
        if found.ownership == Ownership::Exclusive {
            adopt(&mut socket, &table)?;
        }
        let mut batch = Batch::new(&table);
        batch.delete_table();
        socket.commit(batch).map_err(netlink("remove the table"))
    }

    fn apply_difference(
        &mut self,
        applied: &Ruleset,
        wanted: &Ruleset,
    ) -> Result<Applied, NetlinkError> {
        let mut batch = Batch::new(&self.table);
        change(applied, wanted, &mut batch);
        if batch.is_empty() {
            return Ok(Applied {
                change: Change::Nothing,
                bytes: 0,
            });
        }
        let bytes = batch.bytes();
        self.socket.commit(batch)?;
        Ok(Applied {
            change: Change::Difference,
            bytes,
        })
    }

    /// Makes the table anew in one batch; there is no moment without it.
    fn replace(&mut self, wanted: &Ruleset) -> Result<Applied, Error> {
        match self.replace_as(wanted, self.ownership) {
            Err(Error::Netlink { source, .. })
                if self.ownership == Ownership::Exclusive
                    && (source.is_refusal(libc::EOPNOTSUPP) || source.is_refusal(libc::EINVAL)) =>
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

    fn replace_as(&mut self, wanted: &Ruleset, ownership: Ownership) -> Result<Applied, Error> {
        let found = self
            .socket
            .table(&self.table)
            .map_err(netlink("find the table"))?;
        let mut batch = Batch::new(&self.table);
        if let Some(found) = found {
            if found.ownership == Ownership::Exclusive {
                adopt(&mut self.socket, &self.table)?;
            }
            batch.delete_table();
        }
        batch.add_table(ownership);
        change(&Ruleset::default(), wanted, &mut batch);
        let bytes = batch.bytes();
        self.socket
            .commit(batch)
            .map_err(netlink("make the table"))?;
        let made = self
            .socket
            .table(&self.table)
            .map_err(netlink("find the table"))?;
        self.handle = made.map(|table| table.handle);
        Ok(Applied {
            change: Change::Everything,
            bytes,
        })
    }

    /// After the change, so that no new flow can follow the old decision.
    fn finish(&mut self, old: Option<&Ruleset>, wanted: Ruleset, done: Applied) -> Applied {
        let empty = Ruleset::default();
        for flows in stale_flows(old.unwrap_or(&empty), &wanted) {
            if let Err(error) = self.flows.forget(flows) {
                tracing::warn!(%error, ?flows, "flows to a lost endpoint stay until they time out");
            }
        }
        self.applied = Some(wanted);
        done
    }

    fn reopen(&mut self) -> Result<(), Error> {
        let socket = self.namespace.run(NfTablesSocket::open);
        let socket = socket.map_err(|source| Error::System {
            doing: "enter the network namespace",
            source,
        })?;
        self.socket = socket.map_err(netlink("open an nf_tables socket"))?;
        Ok(())
    }
}

fn adopt(socket: &mut NfTablesSocket, table: &str) -> Result<(), Error> {
    let mut batch = Batch::new(table);
    batch.add_table(Ownership::Exclusive);
    socket.commit(batch).map_err(netlink("adopt the table"))
}

pub(crate) fn table_name(instance: &str) -> String {
    format!("combo-{instance}")
}

pub(crate) fn netlink(doing: &'static str) -> impl Fn(NetlinkError) -> Error {
    move |source| Error::Netlink { doing, source }
}
