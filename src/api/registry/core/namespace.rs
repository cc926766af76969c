//! Namespaces of `v1`.

use apimachinery::NameRule;
use k8s_openapi::api::core::v1::Namespace;

use crate::{DeleteAnswer, SelectableField, Strategy, Subresource, Verbs};

/// Objects of kind `Namespace`.
#[derive(Debug)]
pub struct Namespaces;

impl Strategy for Namespaces {
    type Kind = Namespace;
    const SHORT_NAMES: &'static [&'static str] = &["ns"];
    const VERBS: Verbs = Verbs::AllButDeleteCollection;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Finalize, Subresource::Status];
    const NAME_RULE: NameRule = NameRule::DnsLabel;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("status.phase", &["status.phase"]),
    ];
}
