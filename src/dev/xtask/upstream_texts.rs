//! Texts of the API that stand in no crate: of enum values, and of parameters that belong to no model.
//!
//! They are in Kubernetes' own Go module, which Go fetches; nothing of it is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::descriptions::{Descriptions, literal};

/// Names the module's version.
const GO_MODULE: &str = "src/dev/xtask/facts";
const MODULE: &str = "k8s.io/kubernetes";
/// The models, as a Go program that holds their texts.
const MODELS: &str = "pkg/generated/openapi/zz_generated.openapi.go";
/// The paths, without the texts of enum values.
const PATHS: &str = "api/openapi-spec/swagger.json";
/// What parameters that belong to no model are kept as.
const PARAMETERS: &str = "parameters";
const FREE_PARAMETERS: &[&str] = &["pretty"];

/// The beginnings of the functions that make models, and of the models' names.
const PACKAGES: [(&str, &str); 4] = [
    ("k8sio_api_", "io.k8s.api."),
    ("pkg_apis_meta_", "io.k8s.apimachinery.pkg.apis.meta."),
    (
        "pkg_apis_apiextensions_",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.",
    ),
    (
        "k8sio_kube_aggregator_pkg_apis_apiregistration_",
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.",
    ),
];

/// Puts what the module says in the place of what the crates say.
pub(crate) fn add(root: &Path, descriptions: &mut Descriptions) -> anyhow::Result<()> {
    let module = fetch(&root.join(GO_MODULE))?;
    let read = |file: &str| {
        let path = module.join(file);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    read_models(&read(MODELS)?, descriptions);
    let paths: Value = serde_json::from_str(&read(PATHS)?).context("read the paths")?;
    let texts = descriptions.entry(PARAMETERS.to_owned()).or_default();
    for parameter in paths["parameters"]
        .as_object()
        .into_iter()
        .flat_map(|all| all.values())
    {
        let (name, text) = (&parameter["name"], &parameter["description"]);
        if let (Some(name), Some(text)) = (name.as_str(), text.as_str())
            && FREE_PARAMETERS.contains(&name)
        {
            texts.insert(name.to_owned(), text.to_owned());
        }
    }
    Ok(())
}

/// The folder of the module's sources.
fn fetch(go_module: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(go_module)
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .output()
        .context("run go: is it installed?")?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("go mod download {MODULE} failed: {}", told.trim());
    }
    let answer: Value = serde_json::from_slice(&output.stdout).context("read what go says")?;
    let folder = answer["Dir"].as_str().context("go names no folder")?;
    Ok(PathBuf::from(folder))
}

/// Reads the functions that make a model each: its text, and those of its fields, indented by three more steps.
fn read_models(program: &str, descriptions: &mut Descriptions) {
    const MODEL_TEXT: &str = "\t\t\t\tDescription: ";
    const FIELD: &str = "\t\t\t\t\t\"";
    const FIELD_TEXT: &str = "\t\t\t\t\t\t\tDescription: ";
    let mut model: Option<String> = None;
    let mut field = String::new();
    for line in program.lines() {
        if let Some(function) = line.strip_prefix("func schema_") {
            model = model_name(function);
            field.clear();
        }
        let Some(model) = &model else {
            continue;
        };
        let text = if let Some(text) = line.strip_prefix(MODEL_TEXT) {
            literal(text.trim_start()).map(|text| (String::new(), text))
        } else if let Some(text) = line.strip_prefix(FIELD_TEXT) {
            literal(text.trim_start()).map(|text| (field.clone(), text))
        } else {
            if let Some((name, "{")) = line
                .strip_prefix(FIELD)
                .and_then(|it| it.split_once("\": "))
            {
                name.clone_into(&mut field);
            }
            None
        };
        if let Some((field, text)) = text {
            let described = descriptions.entry(model.clone()).or_default();
            described.insert(field, text);
        }
    }
}

/// `k8sio_api_core_v1_PodSpec(ref …` is `io.k8s.api.core.v1.PodSpec`.
fn model_name(function: &str) -> Option<String> {
    let (name, _) = function.split_once('(')?;
    let found = PACKAGES
        .iter()
        .find_map(|(begin, package)| Some((package, name.strip_prefix(begin)?)));
    found.map(|(package, rest)| format!("{package}{}", rest.replace('_', ".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_names_its_model_and_the_fields_keep_their_texts() {
        let program = "func schema_k8sio_api_core_v1_Pod(ref x) y {\n\
                       \t\t\t\tDescription: \"A pod.\",\n\
                       \t\t\t\t\t\"spec\": {\n\
                       \t\t\t\t\t\t\tDescription: \"What is \\\"wanted\\\".\",\n\
                       func schema_else_Pod(ref x) y {\n\
                       \t\t\t\tDescription: \"Not read.\",\n";
        let mut descriptions = Descriptions::new();
        read_models(program, &mut descriptions);
        assert_eq!(descriptions.len(), 1);
        let pod = &descriptions["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod[""], "A pod.");
        assert_eq!(pod["spec"], "What is \"wanted\".");
    }
}
