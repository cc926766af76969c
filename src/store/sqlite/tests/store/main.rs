//! The store on disk through its public face: it answers like the model, survives being killed, and says clearly what is wrong with a disk or a file.
#![allow(clippy::unwrap_used)]

mod crash;
mod disk;
mod files;
mod model;
mod oracle;
mod steps;
mod support;
mod time;
mod upkeep;
mod watch;
