//! `${env:NAME}` and `${file:/path}` in the secrets of documents: which of them a node may read, and what they stand for
//! there. A policy, since whoever may write a document chooses the service that is sent the secret. Called by secrets;
//! imports settings.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use wsgateway_model::secret::SecretsSettings;

/// Largest value of a variable or file: the certificates of many authorities. What is shorter by its nature has a limit
/// of its own (a header 4096 bytes).
const VALUE_BYTES_MAX: usize = 65_536;

const ENV: &str = "${env:";
const FILE: &str = "${file:";

/// A reference in a text.
#[derive(Debug, PartialEq, Eq)]
enum Reference<'t> {
    Env(&'t str),
    File(&'t str),
}

/// Whether a text refers to something, well or badly.
pub fn has_reference(text: &str) -> bool {
    text.contains(ENV) || text.contains(FILE)
}

/// Whether a text is one reference and nothing else.
pub fn is_reference(text: &str) -> bool {
    matches!(references(text).as_deref(), Ok([(range, _)]) if range.len() == text.len())
}

/// Whether what a text refers to may change while the node runs.
pub fn names_file(text: &str) -> bool {
    text.contains(FILE)
}

fn references(text: &str) -> Result<Vec<(Range<usize>, Reference<'_>)>, String> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = [ENV, FILE].iter().filter_map(|open| text[from..].find(open)).min().map(|at| from + at) {
        let open = if text[start..].starts_with(ENV) { ENV } else { FILE };
        let inner = start + open.len();
        let end = inner + text[inner..].find('}').ok_or(format!("has a {open}…}} without its closing brace"))?;
        let name = &text[inner..end];
        let reference = match open {
            ENV => Reference::Env(name),
            _ => Reference::File(name),
        };
        found.push((start..end + 1, reference));
        from = end + 1;
    }
    Ok(found)
}

/// Checks how the references of a text are written, without following them.
pub fn check_syntax(text: &str) -> Result<(), String> {
    for (_, reference) in references(text)? {
        match reference {
            Reference::Env(name) => check_name(name)?,
            Reference::File(path) => check_path(path)?,
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match !name.is_empty() && name.bytes().all(legal) && !name.as_bytes()[0].is_ascii_digit() {
        true => Ok(()),
        false => {
            Err("refers to an environment variable whose name has other signs than letters, digits and _".to_owned())
        }
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match path.starts_with('/') && plain && !path.contains('\0') && !path.contains("/./") {
        true => Ok(()),
        false => Err("refers to a file by a path that is not absolute or has . or .. in it".to_owned()),
    }
}

/// What a node lets documents refer to.
#[derive(Debug, Clone)]
pub struct Policy {
    env_prefix: String,
    file_dirs: Vec<PathBuf>,
}

impl Policy {
    pub fn new(settings: &SecretsSettings) -> Policy {
        Policy { env_prefix: settings.env_prefix.clone(), file_dirs: settings.file_dirs.clone() }
    }

    /// The text with what its references stand for on this node. Errors name variable or file, never what is in it.
    pub fn resolved(&self, text: &str) -> Result<String, String> {
        check_syntax(text)?;
        let mut resolved = String::new();
        let mut from = 0;
        for (range, reference) in references(text)? {
            resolved.push_str(&text[from..range.start]);
            resolved.push_str(&match reference {
                Reference::Env(name) => self.variable(name)?,
                Reference::File(path) => self.file(path)?,
            });
            from = range.end;
        }
        resolved.push_str(&text[from..]);
        Ok(resolved)
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        let prefix = self.env_prefix.as_str();
        if prefix.is_empty() {
            return Err(
                "refers to an environment variable, which this node allows none of (secrets.env_prefix)".to_owned()
            );
        }
        if !name.starts_with(prefix) {
            return Err(format!(
                "may refer to environment variables that begin with {prefix} (setting secrets.env_prefix), not to {name}"
            ));
        }
        let what = format!("refers to the environment variable {name}, which");
        let value = std::env::var_os(name).ok_or_else(|| format!("{what} is not set on this node"))?;
        sound(value.into_encoded_bytes(), &what)
    }

    fn file(&self, path: &str) -> Result<String, String> {
        if !self.file_dirs.iter().any(|dir| Path::new(path).starts_with(dir)) {
            let dirs: Vec<_> = self.file_dirs.iter().map(|dir| dir.display().to_string()).collect();
            return Err(match dirs.is_empty() {
                true => "refers to a file, which this node allows none of (secrets.file_dirs)".to_owned(),
                false => {
                    format!("may refer to files in {} (setting secrets.file_dirs), not to {path}", dirs.join(" or "))
                }
            });
        }
        let what = format!("refers to the file {path}, which");
        let failed = |err: std::io::Error| format!("{what} cannot be read on this node: {}", err.kind());
        // Links are followed, as mounted secrets have them, but not out of the folders.
        let real = Path::new(path).canonicalize().map_err(failed)?;
        let within = |dir: &PathBuf| dir.canonicalize().is_ok_and(|dir| real.starts_with(dir));
        if !self.file_dirs.iter().any(within) {
            return Err(format!("{what} is a link out of the folders of secrets.file_dirs"));
        }
        // A pipe would keep the node waiting for whoever writes to it.
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let file = File::options().read(true).custom_flags(flags).open(&real).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(format!("{what} is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        // As editors and `echo` leave it.
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            bytes.pop_if(|last| *last == b'\r');
        }
        sound(bytes, &what)
    }
}

fn sound(bytes: Vec<u8>, what: &str) -> Result<String, String> {
    if bytes.is_empty() {
        return Err(format!("{what} is empty on this node"));
    }
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(format!("{what} has more than {VALUE_BYTES_MAX} bytes on this node"));
    }
    String::from_utf8(bytes).map_err(|_| format!("{what} is no UTF-8 text on this node"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_reference() {
        for text in ["${env:A}", "${file:/run/secrets/x}"] {
            assert!(is_reference(text) && has_reference(text), "{text}");
            check_syntax(text).unwrap();
        }
        for text in ["Bearer ${env:A}", "${env:A}${env:B}", "${env:A"] {
            assert!(!is_reference(text) && has_reference(text), "{text}");
        }
        for text in ["", "${vault:x}", "$env:A", "a}"] {
            assert!(!has_reference(text), "{text}");
            check_syntax(text).unwrap();
        }
        for text in [
            "${env:A",
            "${env:}",
            "${env:1A}",
            "${env:A B}",
            "${env:${env:A}}",
            "${file:}",
            "${file:x}",
            "${file:/run/secrets/../x}",
            "${file:/run/./x}",
        ] {
            assert!(check_syntax(text).is_err(), "{text}");
        }
        assert!(names_file("a ${file:/x}") && !names_file("${env:FILE}"));
    }

    fn policy(dir: &Path) -> Policy {
        // cargo sets this one for every test.
        Policy { env_prefix: "CARGO_PKG_".to_owned(), file_dirs: vec![dir.to_owned()] }
    }

    #[test]
    fn variables_by_prefix() {
        let policy = policy(Path::new("/nowhere"));
        assert_eq!(
            policy.resolved("Bearer ${env:CARGO_PKG_NAME}!").unwrap(),
            format!("Bearer {}!", env!("CARGO_PKG_NAME"))
        );
        let unset = policy.resolved("${env:CARGO_PKG_NOT_SET}").unwrap_err();
        assert!(unset.contains("CARGO_PKG_NOT_SET, which is not set"), "{unset}");
        let foreign = policy.resolved("${env:PATH}").unwrap_err();
        assert!(foreign.contains("begin with CARGO_PKG_") && foreign.contains("not to PATH"), "{foreign}");
        let none = Policy { env_prefix: String::new(), file_dirs: Vec::new() };
        assert!(none.resolved("${env:PATH}").is_err() && none.resolved("${file:/etc/hostname}").is_err());
    }

    #[test]
    fn files_below_the_folders_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, outside) = (folder.path().join("secrets"), folder.path().join("outside"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(&outside, "secret of the machine").unwrap();
        let policy = policy(&dir);
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
        let read = |name: &str| policy.resolved(&format!("${{file:{}/{name}}}", dir.display()));
        write("line", b"hunter2\r\n");
        write("two", b"a\nb\n\n");
        write("empty", b"\n");
        write("binary", b"\xff");
        write("most", &[b'x'; VALUE_BYTES_MAX]);
        write("large", &[b'x'; VALUE_BYTES_MAX + 1]);
        assert_eq!(read("line").unwrap(), "hunter2");
        assert_eq!(read("two").unwrap(), "a\nb\n", "one line end");
        assert_eq!(read("most").unwrap().len(), VALUE_BYTES_MAX);
        std::os::unix::fs::symlink(dir.join("line"), dir.join("link")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("escape")).unwrap();
        std::fs::create_dir(dir.join("folder")).unwrap();
        let pipe = std::ffi::CString::new(dir.join("pipe").display().to_string()).unwrap();
        // SAFETY: a path that ends with its NUL.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        assert_eq!(read("link").unwrap(), "hunter2", "links within are followed");
        for (name, part) in [
            ("empty", "is empty"),
            ("binary", "no UTF-8"),
            ("large", "more than 65536"),
            ("missing", "cannot be read"),
            ("escape", "link out of"),
            ("folder", "no regular file"),
            ("pipe", "no regular file"),
        ] {
            let error = read(name).unwrap_err();
            assert!(error.contains(part) && error.contains(name), "{name}: {error}");
        }
        for path in [outside.display().to_string(), format!("{}x/line", dir.display()), "/proc/self/environ".to_owned()]
        {
            let error = policy.resolved(&format!("${{file:{path}}}")).unwrap_err();
            assert!(error.contains("secrets.file_dirs"), "{error}");
        }
    }
}
