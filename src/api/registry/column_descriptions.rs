//! What each column of a table means: the texts that upstream's printers send with the table.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Facts, taken from a running control plane: `resource.group` → column → text; `*` holds for all.
const DESCRIPTIONS: &str = include_str!("column_descriptions.json");

type Table = BTreeMap<&'static str, BTreeMap<&'static str, std::borrow::Cow<'static, str>>>;

/// The text for a column of `resource` (`deployments.apps`); empty if there is none.
pub(crate) fn find(resource: &str, column: &str) -> String {
    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        serde_json::from_str(DESCRIPTIONS).expect("the table is valid, a test reads it")
    });
    let of = |resource: &str| table.get(resource).and_then(|columns| columns.get(column));
    of(resource)
        .or_else(|| of("*"))
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_column_has_its_own_text_or_that_of_all_kinds() {
        assert!(super::find("pods", "Ready").contains("readiness"));
        assert!(super::find("pods", "Name").contains("unique"));
        assert_eq!(super::find("pods", "Nothing"), "");
    }
}
