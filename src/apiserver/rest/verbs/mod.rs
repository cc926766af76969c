//! The verbs, one file each. Every one of them takes an allowed request.

pub(crate) mod create;
pub(crate) mod delete;
mod delete_collection;
mod get;
pub(crate) mod list;
pub(crate) mod patch;
pub(crate) mod update;
mod watch;

pub(crate) use create::create;
pub(crate) use delete::delete;
pub(crate) use delete_collection::delete_collection;
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use patch::patch;
pub(crate) use update::update;
pub(crate) use watch::watch;
