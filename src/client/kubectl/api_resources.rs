//! `api-resources`: what the server serves.

use clap::Args;

use crate::catalogue::ResourceKind;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::tab_writer::{TABLE, align};

#[derive(Args)]
pub(crate) struct ApiResourcesCommand {
    /// Kinds that are in namespaces (true), or those that are not (false)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    namespaced: Option<bool>,
    /// Of this group only; the empty one is the core
    #[arg(long, value_name = "GROUP")]
    api_group: Option<String>,
    /// Kinds that can all of this
    #[arg(long, value_delimiter = ',', value_name = "VERB")]
    verbs: Vec<String>,
    /// Kinds of this category
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    categories: Vec<String>,
    /// wide|name
    #[arg(
        long,
        short = 'o',
        default_value = "",
        hide_default_value = true,
        value_name = "FORM"
    )]
    output: String,
    /// Leave the headers out
    #[arg(long)]
    no_headers: bool,
    /// name or kind
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "COLUMN"
    )]
    sort_by: String,
}

impl ApiResourcesCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let catalogue = session.catalogue().await?;
        let mut kinds: Vec<&ResourceKind> = catalogue
            .preferred()
            .filter(|kind| self.wants(kind))
            .collect();
        match self.sort_by.as_str() {
            "" => kinds.sort_by_key(|kind| (&kind.resource.group, &kind.resource.resource)),
            "name" => kinds.sort_by_key(|kind| &kind.resource.resource),
            "kind" => kinds.sort_by_key(|kind| &kind.kind),
            other => {
                return Err(Error::usage(format!(
                    "--sort-by accepts only name or kind, not {other:?}"
                )));
            }
        }
        let text = match self.output.as_str() {
            "name" => kinds
                .iter()
                .map(|kind| format!("{}\n", kind.resource.group_resource()))
                .collect(),
            "" | "wide" => self.table(&kinds),
            other => return Err(Error::usage(format!("--output {other} is not available"))),
        };
        session.print(text)
    }

    fn wants(&self, kind: &ResourceKind) -> bool {
        self.namespaced
            .is_none_or(|namespaced| namespaced == kind.is_namespaced)
            && self
                .api_group
                .as_ref()
                .is_none_or(|group| kind.resource.group == *group)
            && self.verbs.iter().all(|verb| kind.can(verb))
            && self
                .categories
                .iter()
                .all(|category| kind.categories.contains(category))
    }

    fn table(&self, kinds: &[&ResourceKind]) -> String {
        let is_wide = self.output == "wide";
        let mut text = String::new();
        if !self.no_headers {
            text.push_str("NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND");
            text.push_str(if is_wide {
                "\tVERBS\tCATEGORIES\n"
            } else {
                "\n"
            });
        }
        for kind in kinds {
            let version = kind.resource.group_version().to_string();
            let cells = [
                &*kind.resource.resource,
                &kind.short_names.join(","),
                &version,
                if kind.is_namespaced { "true" } else { "false" },
                &kind.kind,
            ];
            text.push_str(&cells.join("\t"));
            if is_wide {
                text.push_str(&format!(
                    "\t{}\t{}",
                    kind.verbs.join(","),
                    kind.categories.join(",")
                ));
            }
            text.push('\n');
        }
        align(&text, TABLE)
    }
}
