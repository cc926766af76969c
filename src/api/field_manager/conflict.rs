//! The error when an applied configuration would change what somebody else owns.

use apimachinery::{ApiError, Cause, Reason, StatusDetails};

use crate::field_set::FieldSet;
use crate::managers::{Identity, Manager, Operation};

/// The fields that each of some managers would lose.
#[derive(Debug, Default)]
pub(crate) struct Conflicts(Vec<(Manager, Vec<String>)>);

impl Conflicts {
    pub(crate) fn add(&mut self, manager: &Manager, fields: &FieldSet) {
        self.0.push((manager.clone(), fields.paths()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_error(mut self) -> ApiError {
        self.0
            .sort_by(|(left, _), (right, _)| left.identity.manager.cmp(&right.identity.manager));
        let causes = self
            .0
            .iter()
            .flat_map(|(manager, paths)| {
                paths.iter().map(|path| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", describe(manager)),
                    field: path.clone(),
                })
            })
            .collect();
        ApiError::new(409, Reason::Conflict, self.message()).with_details(StatusDetails {
            causes,
            ..StatusDetails::default()
        })
    }

    fn message(&self) -> String {
        let count: usize = self.0.iter().map(|(_, paths)| paths.len()).sum();
        if let [(manager, paths)] = self.0.as_slice()
            && let [path] = paths.as_slice()
        {
            return format!(
                "Apply failed with 1 conflict: conflict with {}: {path}",
                describe(manager)
            );
        }
        let mut lines = Vec::new();
        for (manager, paths) in &self.0 {
            lines.push(format!("conflicts with {}:", describe(manager)));
            lines.extend(paths.iter().map(|path| format!("- {path}")));
        }
        format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
    }
}

fn describe(manager: &Manager) -> String {
    let Identity {
        manager: name,
        operation,
        api_version,
        subresource,
    } = &manager.identity;
    let mut text = format!("{name:?}");
    if !subresource.is_empty() {
        text.push_str(&format!(" with subresource {subresource:?}"));
    }
    match operation {
        Operation::Apply => text,
        Operation::Update => format!("{text} using {api_version}"),
    }
}
