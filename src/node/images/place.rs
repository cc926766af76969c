//! The keys that lead to a place of a YAML file: what an error says beside its line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// The keys to what stands at `location`, as in `mirrors.docker.io.endpoint`; `None` if the text cannot be read that far.
pub(crate) fn keys_at(text: &str, location: Location) -> Option<String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let tree: Tree = serde_saphyr::from_str_with_options(text, options).ok()?;
    let mut keys = Vec::new();
    let mut tree = &tree;
    loop {
        let children: &mut dyn Iterator<Item = (Location, Option<&str>, &Tree)> = match tree {
            Tree::Other => break,
            Tree::List(items) => {
                &mut (items.iter()).map(|item| (item.referenced, None, &item.value))
            }
            Tree::Map(entries) => &mut (entries.iter())
                .map(|(key, value)| (key.referenced, Some(key.value.as_str()), value)),
        };
        let around = children.take_while(|(begin, ..)| place(*begin) <= place(location));
        let Some((_, key, child)) = around.last() else {
            break;
        };
        keys.extend(key);
        tree = child;
    }
    (!keys.is_empty()).then(|| keys.join("."))
}

fn place(location: Location) -> (u64, u64) {
    (location.line(), location.column())
}

enum Tree {
    Map(Vec<(Spanned<String>, Tree)>),
    List(Vec<Spanned<Tree>>),
    Other,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfAny;
        impl<'de> Visitor<'de> for OfAny {
            type Value = Tree;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("YAML")
            }

            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Tree::Map(entries))
            }
        }
        deserializer.deserialize_any(OfAny)
    }
}
