//! A copy-on-write B+tree with the count of living values in every subtree: a clone shares all nodes with the original, and a write copies only
//! the path it touches, and only where somebody else still holds it.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::types::KeyRange;

/// Values in a leaf and children in an inner node at most. Small, because every write after a snapshot copies one node on each level.
const NODE_MAX: usize = 32;
/// A node smaller than this joins a neighbour if both fit in one.
const NODE_MIN: usize = NODE_MAX / 4;

/// What a tree needs to know of its values.
pub(crate) trait Keyed: Clone {
    fn key(&self) -> &Arc<[u8]>;
    /// Whether the value counts; a deleted key whose history is still kept does not.
    fn is_live(&self) -> bool;
}

#[derive(Clone, Debug)]
pub(crate) struct Tree<V> {
    root: Arc<Node<V>>,
}

#[derive(Clone, Debug)]
enum Node<V> {
    Leaf(Vec<V>),
    Inner(Vec<Child<V>>),
}

#[derive(Clone, Debug)]
struct Child<V> {
    /// No key in the subtree is smaller.
    first: Arc<[u8]>,
    live: usize,
    node: Arc<Node<V>>,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Vec::new())),
        }
    }
}

impl<V: Keyed> Tree<V> {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(values) => return position(values, key).ok().map(|at| &values[at]),
                Node::Inner(children) => node = &children[child_for(children, key)].node,
            }
        }
    }

    /// Puts a value under its key and returns the one that was there.
    pub(crate) fn insert(&mut self, value: V) -> Option<V> {
        let (old, split) = insert(&mut self.root, value);
        if let Some(right) = split {
            let left = Child::of(Arc::clone(&self.root));
            self.root = Arc::new(Node::Inner(vec![left, right]));
        }
        old
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.get(key)?;
        let removed = remove(&mut self.root, key);
        while let Node::Inner(children) = &*self.root
            && let [only] = children.as_slice()
        {
            self.root = Arc::clone(&only.node);
        }
        removed
    }

    /// The living values in the whole tree.
    pub(crate) fn live(&self) -> usize {
        self.root.live()
    }

    /// The living values in `range`, in O(log n).
    pub(crate) fn count(&self, range: &KeyRange) -> usize {
        match &range.end {
            None => usize::from(self.get(&range.start).is_some_and(V::is_live)),
            Some(end) if end.is_empty() => self.live() - self.rank(&range.start),
            Some(end) => self.rank(end).saturating_sub(self.rank(&range.start)),
        }
    }

    /// The living values whose key is smaller than `key`.
    fn rank(&self, key: &[u8]) -> usize {
        let mut node = &*self.root;
        let mut before = 0;
        loop {
            match node {
                Node::Leaf(values) => {
                    let end = position(values, key).unwrap_or_else(|at| at);
                    return before + values[..end].iter().filter(|value| value.is_live()).count();
                }
                Node::Inner(children) => {
                    let at = child_for(children, key);
                    before += children[..at].iter().map(|child| child.live).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// Shows the values of `range` in key order until `visitor` breaks off.
    pub(crate) fn visit<'a>(
        &'a self,
        range: &KeyRange,
        which: Which,
        visitor: &mut Visitor<'a, V>,
    ) {
        let _end_or_broken_off = visit(&self.root, range, which, visitor);
    }
}

pub(crate) type Visitor<'a, V> = dyn FnMut(&'a V) -> ControlFlow<()> + 'a;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Skips whole subtrees in which nothing lives.
    Live,
    All,
}

impl<V: Keyed> Node<V> {
    fn live(&self) -> usize {
        match self {
            Self::Leaf(values) => values.iter().filter(|value| value.is_live()).count(),
            Self::Inner(children) => children.iter().map(|child| child.live).sum(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(values) => values.len(),
            Self::Inner(children) => children.len(),
        }
    }

    fn first(&self) -> Arc<[u8]> {
        match self {
            Self::Leaf(values) => Arc::clone(values[0].key()),
            Self::Inner(children) => Arc::clone(&children[0].first),
        }
    }

    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Leaf(left), Self::Leaf(right)) => left.extend(right),
            (Self::Inner(left), Self::Inner(right)) => left.extend(right),
            _ => unreachable!("neighbours are on one level"),
        }
    }
}

impl<V: Keyed> Child<V> {
    fn of(node: Arc<Node<V>>) -> Self {
        Self {
            first: node.first(),
            live: node.live(),
            node,
        }
    }
}

fn position<V: Keyed>(values: &[V], key: &[u8]) -> Result<usize, usize> {
    values.binary_search_by(|value| (**value.key()).cmp(key))
}

/// The child in whose subtree `key` is or would be.
fn child_for<V>(children: &[Child<V>], key: &[u8]) -> usize {
    children
        .partition_point(|child| &*child.first <= key)
        .saturating_sub(1)
}

fn insert<V: Keyed>(node: &mut Arc<Node<V>>, value: V) -> (Option<V>, Option<Child<V>>) {
    match Arc::make_mut(node) {
        Node::Leaf(values) => match position(values, value.key()) {
            Ok(at) => (Some(std::mem::replace(&mut values[at], value)), None),
            Err(at) => {
                values.insert(at, value);
                let right = split(values, at).map(Node::Leaf);
                (None, right.map(|node| Child::of(Arc::new(node))))
            }
        },
        Node::Inner(children) => {
            let at = child_for(children, value.key());
            if value.key() < &children[at].first {
                children[at].first = Arc::clone(value.key());
            }
            let became_live = value.is_live();
            let (old, split_off) = insert(&mut children[at].node, value);
            let Some(right) = split_off else {
                let was_live = old.as_ref().is_some_and(V::is_live);
                children[at].live += usize::from(became_live);
                children[at].live -= usize::from(was_live);
                return (old, None);
            };
            children[at].live = children[at].node.live();
            children.insert(at + 1, right);
            let right = split(children, at + 1).map(Node::Inner);
            (old, right.map(|node| Child::of(Arc::new(node))))
        }
    }
}

/// Splits an overfull node; a node that grew at its end keeps nearly all, so that ascending inserts leave full nodes behind.
fn split<T>(parts: &mut Vec<T>, inserted_at: usize) -> Option<Vec<T>> {
    if parts.len() <= NODE_MAX {
        return None;
    }
    let at = if inserted_at + 1 == parts.len() {
        NODE_MAX - 1
    } else {
        NODE_MAX / 2
    };
    let right = parts.split_off(at);
    parts.shrink_to_fit();
    Some(right)
}

/// Removes a key that is there.
fn remove<V: Keyed>(node: &mut Arc<Node<V>>, key: &[u8]) -> Option<V> {
    match Arc::make_mut(node) {
        Node::Leaf(values) => position(values, key).ok().map(|at| values.remove(at)),
        Node::Inner(children) => {
            let at = child_for(children, key);
            let removed = remove(&mut children[at].node, key)?;
            children[at].live -= usize::from(removed.is_live());
            match children[at].node.len() {
                0 => drop(children.remove(at)),
                len if len < NODE_MIN => join_neighbour(children, at),
                _ => {}
            }
            Some(removed)
        }
    }
}

fn join_neighbour<V: Keyed>(children: &mut Vec<Child<V>>, at: usize) {
    let left = if at > 0 { at - 1 } else { at };
    let Some(right) = children.get(left + 1) else {
        return;
    };
    if children[left].node.len() + right.node.len() > NODE_MAX {
        return;
    }
    let right = children.remove(left + 1);
    children[left].live += right.live;
    Arc::make_mut(&mut children[left].node).append(Arc::unwrap_or_clone(right.node));
}

fn visit<'a, V: Keyed>(
    node: &'a Node<V>,
    range: &KeyRange,
    which: Which,
    visitor: &mut Visitor<'a, V>,
) -> ControlFlow<()> {
    match node {
        Node::Leaf(values) => {
            let from = position(values, &range.start).unwrap_or_else(|at| at);
            for value in &values[from..] {
                if !range.contains(value.key()) {
                    return ControlFlow::Break(());
                }
                if which == Which::All || value.is_live() {
                    visitor(value)?;
                }
            }
        }
        Node::Inner(children) => {
            for child in &children[child_for(children, &range.start)..] {
                if *child.first > *range.start && !range.contains(&child.first) {
                    return ControlFlow::Break(());
                }
                if which == Which::All || child.live > 0 {
                    visit(&child.node, range, which, visitor)?;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq)]
    struct Value(Arc<[u8]>, bool);

    impl Keyed for Value {
        fn key(&self) -> &Arc<[u8]> {
            &self.0
        }
        fn is_live(&self) -> bool {
            self.1
        }
    }

    fn key(number: u64) -> Arc<[u8]> {
        format!("/k/{number:05}").into_bytes().into()
    }

    fn seen(tree: &Tree<Value>, range: &KeyRange, which: Which) -> Vec<Value> {
        let mut found = Vec::new();
        tree.visit(range, which, &mut |value| {
            found.push(value.clone());
            ControlFlow::Continue(())
        });
        found
    }

    #[test]
    fn a_tree_equals_a_sorted_map_and_its_snapshots_do_not_change() {
        let mut random = 12345u64;
        let mut next = move |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut tree = Tree::default();
        let mut model: BTreeMap<Arc<[u8]>, Value> = BTreeMap::new();
        let mut snapshots = Vec::new();
        for step in 0..20_000 {
            let key = key(next(3000));
            // The first half grows the tree, the second shrinks it.
            if next(10) < if step < 10_000 { 7 } else { 3 } {
                let value = Value(key.clone(), next(4) > 0);
                assert_eq!(tree.insert(value.clone()), model.insert(key, value));
            } else {
                assert_eq!(tree.remove(&key), model.remove(&key));
            }
            if step % 2500 == 0 {
                snapshots.push((tree.clone(), model.clone()));
            }
        }
        snapshots.push((tree, model));
        for (tree, model) in snapshots {
            assert_eq!(tree.live(), model.values().filter(|value| value.1).count());
            for _ in 0..50 {
                let (from, to) = (key(next(3000)), key(next(3000)));
                let range = match next(4) {
                    0 => KeyRange::key(from.to_vec()),
                    1 => KeyRange::from_to(from.to_vec(), Vec::new()),
                    _ => KeyRange::from_to(from.to_vec(), to.to_vec()),
                };
                let all: Vec<_> = model
                    .values()
                    .filter(|value| range.contains(&value.0))
                    .cloned()
                    .collect();
                let live: Vec<_> = all.iter().filter(|value| value.1).cloned().collect();
                assert_eq!(tree.count(&range), live.len());
                assert_eq!(seen(&tree, &range, Which::All), all);
                assert_eq!(seen(&tree, &range, Which::Live), live);
            }
        }
    }

    #[test]
    fn every_key_can_be_removed_again() {
        let mut tree = Tree::default();
        for number in 0..5000 {
            tree.insert(Value(key(number), true));
        }
        for number in (0..5000).rev() {
            assert!(tree.remove(&key(number)).is_some());
        }
        assert_eq!(tree.live(), 0);
        tree.insert(Value(key(1), true));
        assert_eq!(tree.live(), 1);
    }
}
