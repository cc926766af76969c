//! Networks that somebody else's CNI plugins make: the runtime's side of the Container Network Interface, 0.3 to 1.1.
//!
//! A plugin is a program of the folder for plugins; what it is told comes from the first configuration of a folder that an
//! administrator, or the DaemonSet of a network product, fills. Both folders must belong to root alone, for what is in them
//! runs as root.
//!
//! Offered: [`CniNetwork`] connects sandboxes by the plugins of the present configuration and disconnects them by those that
//! connected them, and asks those of 1.1 to take away what no pod has. Host ports are served by the service proxy, and by a
//! plugin that asks for them too: both lead to the same place.

mod attachments;
mod chain;
mod configuration;
mod error;
mod network;
mod outcome;
mod plugin;
mod trusted;

pub use error::{Error, PluginError};
pub use network::{CniNetwork, Folders, Sandbox, clean_up};
