//! From what the kernel has to what it should have: the smallest batch; pure.

use super::{Batch, Key, Ruleset, Set, Value};

/// Elements with what they lead to.
pub type Elements<'a> = Vec<(&'a Key, &'a Value)>;

impl Batch {
    /// Puts in what leads from one ruleset to another. Packets see either of the two, nothing between.
    ///
    /// The order is that of references: what is referred to exists before, and is removed after, what refers to it.
    pub fn change(&mut self, old: &Ruleset, new: &Ruleset) {
        let mut set_id = 0;
        for (name, set) in &new.sets {
            if !old.sets.contains_key(name) {
                set_id += 1;
                self.add_set(name, set_id, &set.shape);
            }
        }
        for (name, chain) in &new.chains {
            if !old.chains.contains_key(name) {
                self.add_chain(name, chain.hook);
            }
        }
        for (name, chain) in &old.chains {
            let kept = new.chains.get(name);
            if !chain.rules.is_empty() && kept.is_none_or(|kept| kept.rules != chain.rules) {
                self.flush_chain(name);
            }
        }
        // A set of another shape is made anew, which is possible only now that no rule refers to it.
        for (name, set) in &new.sets {
            if old.sets.contains_key(name) && !is_same_shape(old, name, set) {
                set_id += 1;
                self.delete_set(name);
                self.add_set(name, set_id, &set.shape);
            }
        }
        self.change_elements_of(old, new);
        for (name, chain) in &new.chains {
            let known = old.chains.get(name);
            if known.is_none_or(|known| known.rules != chain.rules) {
                for rule in &chain.rules {
                    self.add_rule(name, rule);
                }
            }
        }
        for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
            self.delete_set(name);
        }
        let gone = |name: &&String| !new.chains.contains_key(*name);
        for name in old.chains.keys().filter(gone) {
            self.delete_chain(name);
        }
    }

    fn change_elements_of(&mut self, old: &Ruleset, new: &Ruleset) {
        for (name, set) in &new.sets {
            let before = old.sets.get(name).filter(|known| known.shape == set.shape);
            let (removed, added) = element_difference(before, Some(set));
            self.delete_elements(name, removed.into_iter());
            self.add_elements(name, added.into_iter());
        }
    }
}

fn is_same_shape(old: &Ruleset, name: &str, set: &Set) -> bool {
    old.sets
        .get(name)
        .is_some_and(|known| known.shape == set.shape)
}

/// What only the old and what only the new set has; an element with another value is in both.
pub fn element_difference<'a>(
    old: Option<&'a Set>,
    new: Option<&'a Set>,
) -> (Elements<'a>, Elements<'a>) {
    let only = |set: Option<&'a Set>, other: Option<&Set>| -> Elements<'a> {
        let elements = set.into_iter().flat_map(|set| &set.elements);
        elements
            .filter(|(key, value)| other.is_none_or(|set| set.elements.get(*key) != Some(*value)))
            .collect()
    };
    (only(old, new), only(new, old))
}
