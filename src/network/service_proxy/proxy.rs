//! The one place that touches the kernel: one table, changed by one atomic batch at a time.

use crate::error::Error;
use crate::facts::{Desired, NodeFacts};
use crate::plan::plan;
use crate::stale_flows::stale_flows;
use linux::netlink::NetlinkError;
use linux::netlink::conntrack::ConntrackSocket;
use linux::netlink::nf_tables::{Applied, KeptTable, Ownership, Ruleset};

/// The Services of a node in the kernel.
#[derive(Debug)]
pub struct ServiceProxy {
    table: KeptTable,
    flows: ConntrackSocket,
}

impl ServiceProxy {
    /// Opens the proxy of an instance in the network namespace of the calling thread. Changes nothing yet; a table of an
    /// earlier process goes on working until the first `apply`.
    pub fn open(instance: &str) -> Result<Self, Error> {
        Self::open_with(instance, Ownership::Exclusive)
    }

    /// As `open`; with `Shared` the table is everybody's, as it is on kernels before 6.9.
    pub fn open_with(instance: &str, ownership: Ownership) -> Result<Self, Error> {
        let table = KeptTable::open(&table_name(instance), ownership);
        Ok(Self {
            table: table.map_err(netlink("open an nf_tables socket"))?,
            flows: ConntrackSocket::open().map_err(netlink("open a conntrack socket"))?,
        })
    }

    /// The table in the kernel: `combo-<instance>`, family `inet`.
    pub fn table(&mut self) -> &mut KeptTable {
        &mut self.table
    }

    /// Brings the kernel to what is desired: all of it or, with an error, nothing. Blocks for microseconds for one
    /// endpoint and a tenth of a second for ten thousand Services.
    pub fn apply(&mut self, desired: &Desired, node: &NodeFacts) -> Result<Applied, Error> {
        let wanted = plan(desired, node);
        let stale = stale_flows(self.table.applied().unwrap_or(&Ruleset::default()), &wanted);
        let done = self.table.apply(wanted);
        let done = done.map_err(netlink("change the table of Services"))?;
        // After the change, so that no new flow can follow the old decision.
        for flows in stale {
            if let Err(error) = self.flows.forget(flows) {
                tracing::warn!(%error, ?flows, "flows to a lost endpoint stay until they time out");
            }
        }
        Ok(done)
    }

    /// After a boot, makes the table without Services, so that pods reach the world before the API does; a table that is
    /// there is left alone.
    pub fn prepare(&mut self, node: &NodeFacts) -> Result<(), Error> {
        if !self.table.exists().map_err(netlink("find the table"))? {
            self.apply(&Desired::default(), node)?;
        }
        Ok(())
    }

    /// Removes the table of an instance. With a running proxy of that instance the kernel refuses it.
    ///
    /// Works in the network namespace of the calling thread.
    pub fn clean_up(instance: &str) -> Result<(), Error> {
        KeptTable::remove(&table_name(instance)).map_err(netlink("remove the table of Services"))
    }
}

fn table_name(instance: &str) -> String {
    format!("combo-{instance}")
}

fn netlink(doing: &'static str) -> impl Fn(NetlinkError) -> Error {
    move |source| Error::Netlink { doing, source }
}
