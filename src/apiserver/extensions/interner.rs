//! Names that live as long as the program: selectable fields of custom kinds, which the index of every object points to.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// More different names than this are not remembered, so that a stream of new definitions cannot fill the memory.
const NAMES_MAX: usize = 10_000;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The same text with the program's life; `None` if too many are known.
pub(crate) fn intern(name: &str) -> Option<&'static str> {
    let mut names = NAMES.lock();
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() >= NAMES_MAX {
        return None;
    }
    let leaked: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(leaked);
    Some(leaked)
}
