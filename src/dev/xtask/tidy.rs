//! The house rules that no compiler checks. An exception stands in the code: `// tidy: allow(rule): why`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 800;
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "NOTICE",
    "README.md",
    "cross",
    "packaging",
    "rust-toolchain.toml",
    "src",
    "systemd",
    "target",
    "tests",
];

#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    exceptions: Vec<String>,
}

/// Checks everything; prints what was found and every exception.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    top_level(root, &mut findings)?;
    layers(root, &mut findings)?;
    for file in rust_files(&root.join("src"))?
        .into_iter()
        .chain(rust_files(&root.join("tests"))?)
    {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        source(&name, &text, &mut findings);
    }
    for exception in &findings.exceptions {
        println!("allowed: {exception}");
    }
    for problem in &findings.problems {
        println!("tidy: {problem}");
    }
    println!(
        "tidy: {} problems, {} exceptions",
        findings.problems.len(),
        findings.exceptions.len()
    );
    if findings.problems.is_empty() {
        Ok(())
    } else {
        bail!("the tree is not tidy")
    }
}

fn top_level(root: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            findings
                .problems
                .push(format!("{name}: does not belong at the top level"));
        }
    }
    Ok(())
}

/// Every dependency between areas is one that the table in Cargo.toml allows.
fn layers(root: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let table = manifest["workspace"]["metadata"]["may-use"]
        .as_table()
        .context("no may-use table")?;
    let areas = areas(&manifest);
    for (krate, area) in &areas {
        let path = root.join("src").join(area).join(krate).join("Cargo.toml");
        let own: toml::Table = fs::read_to_string(&path)
            .with_context(|| format!("read {}", path.display()))?
            .parse()?;
        let allowed: Vec<&str> = table
            .get(area)
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_str)
            .collect();
        let dependencies = own.get("dependencies").and_then(toml::Value::as_table);
        for dependency in dependencies.into_iter().flat_map(toml::Table::keys) {
            let Some(other) = areas.get(dependency) else {
                continue;
            };
            if other != area && !allowed.contains(&"*") && !allowed.contains(&other.as_str()) {
                findings.problems.push(format!(
                    "src/{area}/{krate}: {area} may not use {other} ({dependency})"
                ));
            }
        }
    }
    Ok(())
}

/// Crate → area, from the workspace's members.
fn areas(manifest: &toml::Table) -> BTreeMap<String, String> {
    let members = manifest["workspace"]["members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str);
    members
        .filter_map(|member| {
            let (area, krate) = member.strip_prefix("src/")?.split_once('/')?;
            Some((krate.to_owned(), area.to_owned()))
        })
        .collect()
}

fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
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

fn source(name: &str, text: &str, findings: &mut Findings) {
    let lines: Vec<&str> = text.lines().collect();
    let allowed = |rule: &str| {
        lines
            .iter()
            .any(|line| line.contains(&format!("tidy: allow({rule}):")))
    };
    for line in lines
        .iter()
        .filter(|line| line.contains("tidy: allow(") && !name.ends_with("tidy.rs"))
    {
        findings.exceptions.push(format!("{name}: {}", line.trim()));
    }
    let is_test_file =
        name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("tests.rs");
    let end = lines
        .iter()
        .position(|line| line.starts_with("#[cfg(test)]"))
        .unwrap_or(lines.len());
    if !is_test_file {
        if end > FILE_LINES_MAX && !allowed("file-length") {
            findings.problems.push(format!(
                "{name}: {end} lines; {FILE_LINES_MAX} are the most"
            ));
        }
        if !allowed("function-length") {
            functions(name, &lines[..end], findings);
        }
        if !text.trim_start().starts_with("//!") && !name.ends_with("build.rs") {
            findings.problems.push(format!(
                "{name}: the first line does not say what the module keeps true"
            ));
        }
    }
    words(name, &lines, findings);
}

fn functions(name: &str, lines: &[&str], findings: &mut Findings) {
    let mut open: Option<(usize, &str, String)> = None;
    for (number, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        match &open {
            None => {
                if let Some(function) = function_name(line) {
                    // A declaration without a body ends on its own line or has no brace.
                    if !line.trim_end().ends_with(';') {
                        open = Some((number, indent, function));
                    }
                }
            }
            Some((start, at, function))
                if *line == format!("{at}}}") || *line == format!("{at};") =>
            {
                let length = number - start + 1;
                if length > FUNCTION_LINES_MAX {
                    findings.problems.push(format!(
                        "{name}:{}: fn {function} has {length} lines; {FUNCTION_LINES_MAX} are the most",
                        start + 1
                    ));
                }
                open = None;
            }
            Some((_, at, _)) if function_name(line).is_some() && indent == *at => {
                open = function_name(line)
                    .filter(|_| !line.trim_end().ends_with(';'))
                    .map(|function| (number, indent, function));
            }
            Some(_) => {}
        }
    }
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub")
            || matches!(
                *word,
                "async" | "unsafe" | "const" | "extern" | "\"C\"" | "in"
            )
    });
    if words.next()? != "fn" {
        return None;
    }
    let name: String = words
        .next()?
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect();
    Some(name)
}

fn words(name: &str, lines: &[&str], findings: &mut Findings) {
    if name.ends_with("xtask/tidy.rs") {
        return;
    }
    for (number, line) in lines.iter().enumerate() {
        let at = number + 1;
        if line.trim_start().starts_with("#[ignore") {
            findings
                .problems
                .push(format!("{name}:{at}: a test that does not run"));
        }
        if ["TODO", "FIXME", "XXX:"]
            .iter()
            .any(|word| line.contains(word))
            && !line.contains("tidy: allow(")
        {
            findings
                .problems
                .push(format!("{name}:{at}: left for later"));
        }
    }
}
