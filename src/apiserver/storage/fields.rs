//! Reads the few selectable fields of an object straight from its bytes.

use std::fmt;

use registry::SelectablePath;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One path that is looked for: which field, which alternative, and how deep the walk is in it.
#[derive(Clone, Copy)]
struct Wanted<'p> {
    field: usize,
    alternative: usize,
    rest: &'p [std::borrow::Cow<'static, str>],
}

/// Field names with their values.
type Values = Box<[(&'static str, Box<str>)]>;

/// The value of each field, in the order given.
pub(crate) fn extract(
    bytes: &[u8],
    fields: &[SelectablePath],
) -> Result<Values, serde_json::Error> {
    if fields.is_empty() {
        return Ok(Box::default());
    }
    let wanted: Vec<Wanted<'_>> = fields
        .iter()
        .enumerate()
        .flat_map(|(field, selectable)| {
            selectable
                .paths
                .iter()
                .enumerate()
                .map(move |(alternative, path)| Wanted {
                    field,
                    alternative,
                    rest: path,
                })
        })
        .collect();
    let mut found: Vec<Option<(usize, String)>> = vec![None; fields.len()];
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Walk {
        wanted,
        found: &mut found,
    }
    .deserialize(&mut reader)?;
    Ok(fields
        .iter()
        .zip(found)
        .map(|(field, found)| {
            let value = found
                .map(|(_, value)| value)
                .filter(|value| !value.is_empty());
            (
                field.name,
                value
                    .unwrap_or_else(|| field.fallback.to_string())
                    .into_boxed_str(),
            )
        })
        .collect())
}

struct Walk<'p, 'f> {
    wanted: Vec<Wanted<'p>>,
    found: &'f mut Vec<Option<(usize, String)>>,
}

impl Walk<'_, '_> {
    fn keep(&mut self, text: &str) {
        for wanted in self.wanted.iter().filter(|wanted| wanted.rest.is_empty()) {
            let slot = &mut self.found[wanted.field];
            if !text.is_empty()
                && slot
                    .as_ref()
                    .is_none_or(|(alternative, _)| *alternative > wanted.alternative)
            {
                *slot = Some((wanted.alternative, text.to_owned()));
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let below: Vec<Wanted<'_>> = self
                .wanted
                .iter()
                .filter_map(|wanted| {
                    let (first, rest) = wanted.rest.split_first()?;
                    (*first == key).then_some(Wanted { rest, ..*wanted })
                })
                .collect();
            if below.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Walk {
                    wanted: below,
                    found: &mut *self.found,
                })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.keep(text);
        Ok(())
    }

    fn visit_bool<E>(mut self, flag: bool) -> Result<(), E> {
        self.keep(if flag { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(mut self, number: i64) -> Result<(), E> {
        self.keep(&number.to_string());
        Ok(())
    }

    fn visit_u64<E>(mut self, number: u64) -> Result<(), E> {
        self.keep(&number.to_string());
        Ok(())
    }

    fn visit_f64<E>(mut self, number: f64) -> Result<(), E> {
        self.keep(&number.to_string());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_with_alternatives_and_fallbacks() {
        let field =
            |name: &'static str, paths: &[&'static str], fallback: &'static str| SelectablePath {
                name,
                paths: paths
                    .iter()
                    .map(|path| path.split('.').map(Into::into).collect())
                    .collect(),
                fallback: fallback.into(),
            };
        let fields = [
            field("source", &["source.component", "reporting"], ""),
            field("spec.hostNetwork", &["spec.hostNetwork"], "false"),
            field("status.replicas", &["status.replicas"], "0"),
        ];
        let bytes = br#"{"reporting":"r","source":{"component":""},"spec":{"x":[{"hostNetwork":true}]},"status":{"replicas":3}}"#;
        let found = extract(bytes, &fields).expect("JSON");
        let values: Vec<&str> = found.iter().map(|(_, value)| &**value).collect();
        assert_eq!(values, ["r", "false", "3"]);
    }
}
