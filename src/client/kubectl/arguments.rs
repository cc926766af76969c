//! Which objects the arguments of a command name: `pods`, `pod a b`, `pods,services`, `deploy/a svc/b`, `all`.

use clap::Args;

use crate::catalogue::{Catalogue, ResourceKind};
use crate::error::{Error, Result};

/// Objects of one kind: one by name, or all that selectors choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: ResourceKind,
    /// `None`: all of them.
    pub(crate) name: Option<String>,
}

/// Which of a kind's objects are meant.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Selectors {
    /// Label selector, such as app=web,tier!=cache
    #[arg(
        long = "selector",
        short = 'l',
        default_value = "",
        hide_default_value = true,
        value_name = "SELECTOR"
    )]
    pub(crate) labels: String,
    /// Field selector, such as status.phase=Running
    #[arg(
        long = "field-selector",
        default_value = "",
        hide_default_value = true,
        value_name = "SELECTOR"
    )]
    pub(crate) fields: String,
}

impl Selectors {
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }
}

/// Reads the arguments; what they name need not exist.
pub(crate) fn targets(arguments: &[String], catalogue: &Catalogue) -> Result<Vec<Target>> {
    let Some(first) = arguments.first() else {
        return Err(Error::usage(
            "Required resource not specified.\nUse \"combo kubectl api-resources\" for a complete list of \
             supported resources.",
        ));
    };
    if first.contains('/') {
        return arguments
            .iter()
            .map(|argument| pair(argument, catalogue))
            .collect();
    }
    let names = &arguments[1..];
    if names.iter().any(|name| name.contains('/')) {
        return Err(Error::usage(
            "there is no need to specify a resource type as a separate argument when passing arguments in \
             resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource \
             resource/<resource_name>'",
        ));
    }
    let mut kinds = Vec::new();
    for word in first.split(',').filter(|word| !word.is_empty()) {
        let category = catalogue.category(word);
        if category.is_empty() {
            kinds.push(catalogue.find(word)?);
        } else {
            kinds.extend(category);
        }
    }
    let mut targets = Vec::new();
    for kind in kinds {
        if names.is_empty() {
            targets.push(Target {
                kind: kind.clone(),
                name: None,
            });
        }
        let named = names.iter().map(|name| Target {
            kind: kind.clone(),
            name: Some(name.clone()),
        });
        targets.extend(named);
    }
    Ok(targets)
}

fn pair(argument: &str, catalogue: &Catalogue) -> Result<Target> {
    let parts: Vec<&str> = argument.split('/').collect();
    let [kind, name] = parts.as_slice() else {
        return Err(Error::usage(format!(
            "there is no need to specify a resource type as a separate argument when passing arguments in \
             resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource \
             resource/<resource_name>': {argument:?} is no TYPE/NAME"
        )));
    };
    if kind.is_empty() || name.is_empty() {
        return Err(Error::usage(
            "arguments in resource/name form must have a single resource and name",
        ));
    }
    Ok(Target {
        kind: catalogue.find(kind)?.clone(),
        name: Some((*name).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use env::SystemClock;
    use kube_client::fake::FakeApi;

    use super::*;

    async fn read(arguments: &[&str]) -> Result<Vec<String>> {
        let client = FakeApi::new(SystemClock::shared()).client();
        let catalogue = Catalogue::discover(&client).await.expect("discovery");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let targets = targets(&arguments, &catalogue)?;
        Ok(targets
            .iter()
            .map(|target| target.kind.label(target.name.as_deref().unwrap_or("*")))
            .collect())
    }

    #[tokio::test]
    async fn arguments_name_kinds_and_objects_in_any_form() {
        assert_eq!(read(&["pods"]).await.expect("targets"), ["pod/*"]);
        assert_eq!(
            read(&["pod,services", "a"]).await.expect("targets"),
            ["pod/a", "service/a"]
        );
        assert_eq!(
            read(&["deployment/a", "pod/b"]).await.expect("targets"),
            ["deployment.apps/a", "pod/b"]
        );
        assert!(read(&["pods", "pod/b"]).await.is_err());
        assert!(read(&["pod/b", "c"]).await.is_err());
        assert!(read(&[]).await.is_err());
    }
}
