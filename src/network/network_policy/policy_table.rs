//! The one place that touches the kernel.

use crate::error::Error;
use crate::facts::Desired;
use crate::plan::plan;
use linux::netlink::NetlinkError;
use linux::netlink::nf_tables::{Applied, KeptTable, Ownership};

/// The policies of a node in the kernel.
#[derive(Debug)]
pub struct PolicyTable(KeptTable);

impl PolicyTable {
    /// Opens the table of an instance in the network namespace of the calling thread. Changes nothing yet; the rules of
    /// an earlier process hold until the first `apply`.
    pub fn open(instance: &str) -> Result<Self, Error> {
        Self::open_with(instance, Ownership::Exclusive)
    }

    /// As `open`; with `Shared` the table is everybody's, as it is on kernels before 6.9.
    pub fn open_with(instance: &str, ownership: Ownership) -> Result<Self, Error> {
        let table = KeptTable::open(&table_name(instance), ownership);
        table.map(Self).map_err(netlink("open an nf_tables socket"))
    }

    /// The table in the kernel: `combo-policy-<instance>`, family `inet`.
    pub fn table(&mut self) -> &mut KeptTable {
        &mut self.0
    }

    /// Brings the kernel to what is desired: all of it or, with an error, nothing.
    pub fn apply(&mut self, desired: &Desired) -> Result<Applied, Error> {
        self.0
            .apply(plan(desired))
            .map_err(netlink("change the table of network policies"))
    }

    /// Removes the table of an instance. While another process keeps it the kernel refuses.
    ///
    /// Works in the network namespace of the calling thread.
    pub fn clean_up(instance: &str) -> Result<(), Error> {
        KeptTable::remove(&table_name(instance))
            .map_err(netlink("remove the table of network policies"))
    }
}

fn table_name(instance: &str) -> String {
    format!("combo-policy-{instance}")
}

fn netlink(doing: &'static str) -> impl Fn(NetlinkError) -> Error {
    move |source| Error::Netlink { doing, source }
}
