//! Tables: what `kubectl get` shows, as the server renders it. The columns come from the registry; here they meet rows.

use serde_json::{Value, json};

use crate::splice::{
    ListMetadata, MetaVersion, push_partial_metadata, push_with_resource_version, write_json,
};

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDefinition {
    pub name: String,
    /// An `OpenAPI` type: `string`, `integer`, `number`, `boolean` or `date`.
    pub column_type: String,
    /// `name` for the column that names the object, else mostly "".
    pub format: String,
    pub description: String,
    /// 0 is always shown; above that only in wide output.
    pub priority: i32,
}

impl ColumnDefinition {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.column_type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}

/// What of the object a row carries beside its cells: the request's `includeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; the default is `Metadata`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(format!("unrecognized includeObject value: {other:?}")),
        }
    }
}

/// A table, put together row by row.
#[derive(Debug)]
pub struct Table {
    out: Vec<u8>,
    include: IncludeObject,
    version: MetaVersion,
    is_empty: bool,
}

impl Table {
    /// Begins a table. In a watch only the first event has columns; later ones pass `None`.
    pub fn new(
        columns: Option<&[ColumnDefinition]>,
        metadata: &ListMetadata<'_>,
        include: IncludeObject,
        version: MetaVersion,
    ) -> Self {
        let mut out = format!(
            "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{}\",\"metadata\":{},\"columnDefinitions\":",
            version.as_str(),
            metadata.to_json()
        )
        .into_bytes();
        let columns = columns.map(|list| list.iter().map(ColumnDefinition::to_json).collect());
        write_json(&mut out, &columns.map_or(Value::Null, Value::Array));
        out.extend_from_slice(b",\"rows\":[");
        Self {
            out,
            include,
            version,
            is_empty: true,
        }
    }

    /// Appends a row. `object` is the stored object, which goes in whole, as metadata or not at all.
    pub fn push(&mut self, cells: &[Value], object: &[u8], revision: i64) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(b"{\"cells\":[");
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write_json(&mut self.out, cell);
        }
        self.out.extend_from_slice(b"],\"object\":");
        match self.include {
            IncludeObject::None => self.out.extend_from_slice(b"null"),
            IncludeObject::Metadata => {
                push_partial_metadata(&mut self.out, object, revision, self.version);
            }
            IncludeObject::Object => push_with_resource_version(&mut self.out, object, revision),
        }
        self.out.push(b'}');
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"]}\n");
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_carries_its_cells_and_as_much_of_the_object_as_asked() {
        let column = ColumnDefinition {
            name: "Name".into(),
            column_type: "string".into(),
            format: "name".into(),
            description: "d".into(),
            priority: 0,
        };
        let stored = br#"{"kind":"A","apiVersion":"v1","metadata":{"name":"x"},"spec":{}}"#;
        let rows = |include| {
            let metadata = ListMetadata {
                revision: 3,
                ..ListMetadata::default()
            };
            let mut table = Table::new(
                Some(std::slice::from_ref(&column)),
                &metadata,
                include,
                MetaVersion::V1,
            );
            table.push(&[json!("x")], stored, 2);
            let table: Value = serde_json::from_slice(&table.finish()).unwrap();
            assert_eq!(table["columnDefinitions"][0]["format"], "name");
            table["rows"].clone()
        };
        assert_eq!(
            rows(IncludeObject::None),
            json!([{"cells": ["x"], "object": null}])
        );
        assert_eq!(
            rows(IncludeObject::Metadata)[0]["object"],
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                   "metadata": {"name": "x", "resourceVersion": "2"}})
        );
        assert_eq!(rows(IncludeObject::Object)[0]["object"]["spec"], json!({}));
    }
}
