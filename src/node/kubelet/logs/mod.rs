//! Logs of containers: where they lie, and reading them.

mod last_words;
mod path;

pub(crate) use last_words::last_words;
pub(crate) use path::container_link_name;
