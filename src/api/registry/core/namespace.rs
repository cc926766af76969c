//! Namespaces of `v1`.

use apimachinery::NameRule;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use crate::{Column, DeleteAnswer, SelectableField, Strategy, Subresource, Verbs};
use crate::pod_template::default_text;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Stands until the namespace's content is gone.
const FINALIZER: &str = "kubernetes";

/// Objects of kind `Namespace`.
#[derive(Debug)]
pub struct Namespaces;

impl Strategy for Namespaces {
    type Kind = Namespace;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Status", |namespace, _| {
            namespace.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default().into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["ns"];
    const VERBS: Verbs = Verbs::AllButDeleteCollection;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Finalize, Subresource::Status];
    const NAME_RULE: NameRule = NameRule::DnsLabel;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("status.phase", &["status.phase"]),
    ];

    fn default(namespace: &mut Namespace) {
        default_text(&mut namespace.status.get_or_insert_default().phase, "Active");
        // The label lets selectors name a namespace; nobody can take it away.
        if let Some(name) = namespace.metadata.name.clone() {
            namespace.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
    }

    fn prepare_for_create(namespace: &mut Namespace) {
        namespace.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), ..NamespaceStatus::default() });
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn prepare_for_update(namespace: &mut Namespace, old: &Namespace) {
        namespace.spec.clone_from(&old.spec);
        namespace.status.clone_from(&old.status);
    }
}
