//! Logs of containers: where they lie, and reading them.

mod last_words;
mod line;
mod options;
mod path;
mod read;

pub(crate) use last_words::last_words;
pub(crate) use options::LogOptions;
pub(crate) use path::container_link_name;
pub(crate) use read::read_log;
