//! The endpoint's path: which templates are taken, and which parameters they declare. Imports limits only.

use wsgateway_model::limits::{PATH_BYTES_MAX, PATH_BYTES_MIN};

/// The parameters of a path: name, and whether it is a catch-all (`{*name}`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathParams(Vec<(String, bool)>);

impl PathParams {
    /// Whether `name` is a catch-all; None: it is not declared.
    pub fn is_catch_all(&self, name: &str) -> Option<bool> {
        self.0.iter().find(|(declared, _)| declared == name).map(|(_, catch_all)| *catch_all)
    }

    /// Reads a template, or says what is wrong with it.
    pub fn parse(path: &str) -> Result<Self, String> {
        if path.len() < PATH_BYTES_MIN || path.len() > PATH_BYTES_MAX {
            return Err(format!("must have {PATH_BYTES_MIN}–{PATH_BYTES_MAX} characters, has {}", path.len()));
        }
        if !path.starts_with('/') {
            return Err("must start with \"/\"".to_owned());
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@{}".contains(c);
        if let Some(bad) = path.chars().find(|c| !allowed(*c)) {
            return Err(format!("must not contain {bad:?}"));
        }
        let mut params = Vec::new();
        for segment in path[1..].split('/') {
            match segment {
                "." | ".." => return Err("must not have \".\" or \"..\" segments: clients resolve them".to_owned()),
                _ => segment_params(segment, &mut params)?,
            }
        }
        // What is left are matchit's own rules, such as one parameter a segment and catch-alls at the end.
        matchit::Router::new().insert(path, ()).map_err(|error| format!("is no path template: {error}"))?;
        Ok(Self(params))
    }
}

fn segment_params(segment: &str, params: &mut Vec<(String, bool)>) -> Result<(), String> {
    let mut rest = segment;
    while let Some(open) = rest.find(['{', '}']) {
        let tail = &rest[open..];
        let inside = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'));
        let Some((inside, after)) = inside else {
            return Err("has braces that do not pair up".to_owned());
        };
        let (name, catch_all) = inside.strip_prefix('*').map_or((inside, false), |name| (name, true));
        let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !word || !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err(format!("parameter {inside:?} must be a name of letters, digits and _"));
        }
        if params.iter().any(|(known, _)| known == name) {
            return Err(format!("has the parameter {name:?} twice"));
        }
        params.push((name.to_owned(), catch_all));
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_templates() {
        let params = PathParams::parse("/chat/{room}/{*rest}").unwrap();
        assert_eq!(params.is_catch_all("room"), Some(false));
        assert_eq!(params.is_catch_all("rest"), Some(true));
        assert_eq!(params.is_catch_all("other"), None);
        assert_eq!(PathParams::parse("/my-ws-endpoint"), Ok(PathParams::default()));
        assert!(PathParams::parse(&format!("/{}", "a".repeat(254))).is_ok());
    }

    #[test]
    fn refuses_bad_templates() {
        for bad in [
            "/",
            "",
            "chat",
            "/a b",
            "/a?b",
            "/a#b",
            "/a%20",
            "/é",
            "/{",
            "/}",
            "/{}",
            "/{a",
            "/{{a}}",
            "/{a}/{a}",
            "/{1a}",
            "/{*rest}/x",
            "/{a}{b}",
            "/{a-b}",
            "/../a",
            "/a/./b",
            "/a\u{0}",
            &format!("/{}", "a".repeat(255)),
        ] {
            assert!(PathParams::parse(bad).is_err(), "{bad}");
        }
    }
}
