//! Endpoint files on disk: which ones are meant, in which format they are, and what is wrong with them as
//! `file:line:column: path: message`. Called by the commands that take files.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::findings::Finding;
use crate::config::source_text::{Format, Place, SourceFault, SourceText, SOURCE_BYTES_MAX};

/// Files of a folder that are taken for endpoint files.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// An endpoint file that was read.
pub struct EndpointFile {
    /// As the user named it.
    pub name: String,
    pub source: SourceText,
}

impl EndpointFile {
    /// A finding with its place in this file; of a template that stands there line by line, the very line.
    pub fn located(&self, finding: &Finding) -> String {
        let in_template = finding.message.strip_prefix("line ").and_then(|rest| rest.split_once(" of the template: "));
        if let Some((line, message)) = in_template {
            let line = line.parse().ok().filter(|line| *line > 0);
            if let Some(place) = line.and_then(|line| self.source.line_of_text(&finding.path, line)) {
                let finding = Finding { path: finding.path.clone(), message: message.to_owned() };
                return located(&self.name, place, &finding);
            }
        }
        located(&self.name, self.source.place(&finding.path), finding)
    }
}

fn located(name: &str, place: Place, finding: &Finding) -> String {
    let path = if finding.path.is_empty() { "(document)" } else { &finding.path };
    format!("{name}:{}:{}: {path}: {}", place.line, place.column, finding.message)
}

/// The files that are meant: folders stand for the endpoint files in them, also deeper ones, by name. `-` is stdin.
pub fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            collect(path, &mut files)?;
            if files.len() == before {
                anyhow::bail!("{}: the folder has no file that ends in .json, .yaml or .yml", path.display());
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if hidden {
            continue;
        }
        // A link to a folder is not followed: it could lead back here.
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else if path.is_file() && EXTENSIONS.contains(&extension) {
            files.push(path);
        }
    }
    Ok(())
}

/// Reads one file; the outer error: it cannot be opened, the inner: the line that says what is wrong with it.
pub fn read(path: &Path) -> anyhow::Result<Result<EndpointFile, String>> {
    let name = path.display().to_string();
    let text = read_text(path)?;
    Ok(match SourceText::read(&text, format(path, &text)) {
        Ok(source) => Ok(EndpointFile { name, source }),
        Err(SourceFault { place, finding }) => Err(located(&name, place, &finding)),
    })
}

/// The text of a file, `-` for standard input.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let limit = SOURCE_BYTES_MAX as u64 + 1;
    let name = path.display().to_string();
    if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes).context("standard input")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| name.clone())?;
        file.take(limit).read_to_end(&mut bytes).with_context(|| name.clone())?;
    }
    String::from_utf8(bytes).map_err(|err| anyhow::anyhow!("{name}: is not UTF-8: {}", err.utf8_error()))
}

/// By the name; without one that tells, by how the text begins.
fn format(path: &Path, text: &str) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Format::Json,
        Some("yaml" | "yml") => Format::Yaml,
        _ if text.trim_start().starts_with('{') => Format::Json,
        _ => Format::Yaml,
    }
}
