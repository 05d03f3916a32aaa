//! The examples of the documentation: every one that is an endpoint document is accepted, so that pages cannot rot.

use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use crate::cli::{err, out, run};
use crate::cli_files::file;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![Path::new(ROOT).join("README.md")];
    for folder in ["docs", "docs/examples"] {
        for entry in std::fs::read_dir(Path::new(ROOT).join(folder)).expect("a folder") {
            pages.push(entry.expect("an entry").path());
        }
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

/// The fenced blocks of a language, with the line that they begin in. Indented ones (in lists) lose their indent.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, &'p str, Vec<&'p str>)> = None;
    for (number, line) in page.lines().enumerate() {
        let text = line.trim_start();
        match &mut open {
            None if text.strip_prefix("```").is_some_and(|named| named == language) => {
                open = Some((number + 1, &line[..line.len() - text.len()], Vec::new()));
            }
            None => {}
            Some((_, indent, lines)) if text != "```" => lines.push(line.strip_prefix(*indent).unwrap_or(line)),
            Some((number, _, lines)) => {
                blocks.push((*number, lines.join("\n")));
                open = None;
            }
        }
    }
    blocks
}

/// A whole document, or one around a part of it; none for what is no part of an endpoint.
fn as_document(example: Value) -> Option<Value> {
    let has = |name: &str| example.get(name).is_some();
    let kind = example["type"].as_str().unwrap_or_default().to_owned();
    match kind.as_str() {
        _ if example["path"].as_str().is_some_and(|path| path.starts_with('/')) => Some(example),
        "http" | "kafka" | "echo" => {
            let destination = example["destination"].as_str().unwrap_or_default();
            let path = if destination.contains("{country}") { "/shop/{country}" } else { "/part" };
            Some(json!({"path": path, "routes": [{"type": "default", "name": "d", "backends": [example]}]}))
        }
        "connect" | "disconnect" | "default" | "custom" => Some(json!({"path": "/part", "routes": [example]})),
        "error" if has("name") => Some(json!({"path": "/part", "routes": [example]})),
        _ => None,
    }
}

#[test]
fn blocks_are_found_wherever_they_stand() {
    let page = "a\n```json\n{}\n```\n- b\n  ```json\n  [\n    1]\n  ```\n```\nno\n```\n```yaml\nx: 1\n```\n";
    assert_eq!(blocks(page, "json"), [(2, "{}".to_owned()), (6, "[\n  1]".to_owned())]);
    assert_eq!(blocks(page, "yaml"), [(13, "x: 1".to_owned())]);
    assert!(as_document(json!({"type": "error", "error": {}})).is_none());
    assert!(as_document(json!({"type": "echo"})).is_some_and(|made| made["path"] == "/part"));
}

#[tokio::test]
async fn every_endpoint_document_of_the_pages_is_accepted() {
    let mut files = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let name = page.file_stem().expect("a name").to_string_lossy().into_owned();
        for (line, block) in blocks(&text, "json") {
            let example: Value = serde_json::from_str(&block)
                .unwrap_or_else(|error| panic!("{}:{line}: not JSON: {error}\n{block}", page.display()));
            let whole = example["path"].is_string();
            let Some(document) = as_document(example) else { continue };
            // As it stands there, where it is a whole one.
            let text = if whole { block } else { document.to_string() };
            files.push(file("docs", &format!("{name}-{line}.json"), &text).display().to_string());
        }
        for (line, block) in blocks(&text, "yaml") {
            if block.lines().any(|line| line.starts_with("path: /")) {
                files.push(file("docs", &format!("{name}-{line}.yaml"), &block).display().to_string());
            }
        }
    }
    assert!(files.len() >= 10, "{} examples", files.len());
    let arguments: Vec<&str> = ["check"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let checked = run(&arguments, &[]).await;
    assert!(checked.status.success(), "{}{}", out(&checked), err(&checked));
    println!("{} examples of the pages are accepted", files.len());
}
