//! Makes the descriptions of the built-in kinds, which `kubectl explain` shows, from the sources of two crates, and
//! where Go is installed from Kubernetes' own Go module, which says more.
//!
//! The output is not committed: a build with the feature `descriptions` needs it, others do without.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::upstream_texts;

/// Where the feature `descriptions` of crate `schema` looks for them.
const OUTPUT: &str = "src/api/schema/descriptions.gz";
/// Has every kind, but no lists of them.
const KINDS: (&str, &str) = ("k8s-openapi", "src/v1_36");
/// Has the lists and the options, as comments of messages.
const LISTS: (&str, &str) = ("k8s-pb", "src");
/// The model whose `apiVersion` and `kind` are described as those of every list.
const LIKE_LISTS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// The description of a model ("") and of its fields, by the model's name.
pub(crate) type Descriptions = BTreeMap<String, BTreeMap<String, String>>;

pub(crate) fn generate(root: &Path) -> anyhow::Result<()> {
    let mut descriptions = Descriptions::new();
    for file in rust_files(&sources(root, KINDS)?)? {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        read_schema(&text, &mut descriptions);
    }
    let folder = sources(root, LISTS)?;
    for file in rust_files(&folder)? {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let place = file
            .parent()
            .and_then(|parent| parent.strip_prefix(&folder).ok())
            .unwrap_or(Path::new(""));
        read_lists(&text, place, &mut descriptions);
    }
    complete_lists(&mut descriptions);
    if let Err(error) = upstream_texts::add(root, &mut descriptions) {
        eprintln!("texts of enum values and of the parameter `pretty` are left out: {error:#}");
    }
    if descriptions.len() < 500 {
        bail!(
            "only {} models are described: did the crates change their form?",
            descriptions.len()
        );
    }
    let output = root.join(OUTPUT);
    let file = File::create(&output).with_context(|| format!("write {}", output.display()))?;
    let mut encoder = GzEncoder::new(file, Compression::best());
    encoder.write_all(&serde_json::to_vec(&descriptions)?)?;
    encoder.finish()?;
    println!("{OUTPUT}: {} models", descriptions.len());
    Ok(())
}

/// The folder of a crate's sources, which Cargo fetches if they are missing.
fn sources(root: &Path, (name, folder): (&str, &str)) -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--format-version",
            "1",
            "--all-features",
            "--manifest-path",
        ])
        .arg(root.join("src/dev/xtask/Cargo.toml"))
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?;
    let package = packages.iter().find(|package| package["name"] == name);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("the crate {name} is not in the graph"))?;
    Ok(Path::new(manifest)
        .parent()
        .context("a manifest is in a folder")?
        .join(folder))
}

fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the schemas that a file writes for its types: one model per file, its fields indented by one more step.
fn read_schema(text: &str, descriptions: &mut Descriptions) {
    const MODEL_INDENT: &str = "            \"description\": ";
    const FIELD_INDENT: &str = "                \"";
    const FIELD_TEXT_INDENT: &str = "                    \"description\": ";
    const INSERTED: &str = "schema_obj.ensure_object().insert(\"description\".into(), ";
    let Some((_, schema)) = text.split_once("fn schema_name()") else {
        return;
    };
    let Some(model) = schema.split('"').nth(1) else {
        return;
    };
    let described = descriptions.entry(model.to_owned()).or_default();
    let mut field = String::new();
    for line in schema.lines() {
        if let Some(text) = line.strip_prefix(MODEL_INDENT).and_then(literal) {
            described.insert(String::new(), text);
        } else if let Some(text) = line.strip_prefix(FIELD_TEXT_INDENT).and_then(literal) {
            described.insert(field.clone(), text);
        } else if let Some(text) = line.trim_start().strip_prefix(INSERTED).and_then(literal) {
            described.insert(field.clone(), text);
        } else if let Some((name, _)) = line
            .strip_prefix(FIELD_INDENT)
            .and_then(|rest| rest.split_once("\": "))
        {
            name.clone_into(&mut field);
        }
    }
}

/// The text of a Rust string literal at the beginning of `source`.
pub(crate) fn literal(source: &str) -> Option<String> {
    let mut letters = source.strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => match letters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'u' => {
                    let code: String = letters
                        .by_ref()
                        .skip(1)
                        .take_while(|letter| *letter != '}')
                        .collect();
                    text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

/// Reads the comments of the messages whose name ends in `List` or `Options`, and of their fields.
/// What is described already stays.
fn read_lists(text: &str, place: &Path, descriptions: &mut Descriptions) {
    let package: Vec<String> = place
        .iter()
        .map(|part| {
            part.to_string_lossy()
                .replace("apiextensions_apiserver", "apiextensions-apiserver")
        })
        .collect();
    let package = package
        .join(".")
        .replace("kube_aggregator", "kube-aggregator");
    let mut comment = Vec::new();
    let mut list: Option<String> = None;
    for line in text.lines() {
        let bare = line.trim_start();
        if let Some(text) = bare.strip_prefix("///") {
            comment.push(text.strip_prefix(' ').unwrap_or(text));
        } else if let Some(name) = line
            .strip_prefix("pub struct ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            list = ["List", "Options"]
                .iter()
                .any(|end| name.ends_with(end))
                .then(|| format!("io.k8s.{package}.{name}"));
            if let Some(list) = &list {
                descriptions
                    .entry(list.clone())
                    .or_default()
                    .entry(String::new())
                    .or_insert_with(|| paragraphs(&comment));
            }
            comment.clear();
        } else if bare == "}" {
            list = None;
            comment.clear();
        } else if let Some((name, _)) = bare
            .strip_prefix("pub ")
            .and_then(|rest| rest.split_once(": "))
        {
            if let Some(list) = &list {
                descriptions
                    .entry(list.clone())
                    .or_default()
                    .entry(json_name(name))
                    .or_insert_with(|| paragraphs(&comment));
            }
            comment.clear();
        }
    }
}

/// `field_selector` is `fieldSelector`.
fn json_name(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name + letters.as_str()
    })
}

/// Joins the lines of a comment as upstream does: a blank line ends a paragraph, markers are no text.
fn paragraphs(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.starts_with('+'))
    {
        if line.is_empty() {
            text.push_str("\n\n");
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push(' ');
        }
        // Addresses stand in angle brackets, for the sake of documentation of Rust.
        text.push_str(&line.replace("<http", "http").replace('>', ""));
    }
    text.trim().to_owned()
}

/// What every list has is described nowhere.
fn complete_lists(descriptions: &mut Descriptions) {
    let common: Vec<(String, String)> = descriptions
        .get(LIKE_LISTS)
        .into_iter()
        .flatten()
        .filter(|(field, _)| matches!(field.as_str(), "apiVersion" | "kind"))
        .map(|(field, text)| (field.clone(), text.clone()))
        .collect();
    let lists = descriptions
        .iter_mut()
        .filter(|(_, fields)| fields.contains_key("items") && fields.contains_key("metadata"));
    for (_, fields) in lists {
        for (field, text) in &common {
            fields.entry(field.clone()).or_insert_with(|| text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_becomes_paragraphs_without_markers() {
        assert_eq!(
            paragraphs(&[
                "Standard metadata.",
                "More: <https://a.b>",
                "",
                "Next",
                "+optional"
            ]),
            "Standard metadata. More: https://a.b\n\nNext"
        );
    }

    #[test]
    fn a_literal_ends_at_its_quote() {
        assert_eq!(
            literal(r#""a \"b\"\n\u{e9}", more"#).as_deref(),
            Some("a \"b\"\n\u{e9}")
        );
    }
}
