//! Conditions on connections, as callers of the admin API write them: an expression over the connection's description.
//! Called by the admin side, where they come in, and on each node that carries them out.

use wsgateway_model::connection_filter::ConnectionFilter;
use wsgateway_model::expression::Source;
use wsgateway_model::limits::{CONNECTION_FILTER_BYTES_MAX, CONNECTION_FILTER_REGEXES_MAX, REGEXES_MAX};

use super::expression;
use crate::document::Expression;
use crate::findings::{Finding, Findings};

/// Compiles the text of a condition. Findings' paths begin with `path`.
pub fn compile(text: &str, path: &str) -> Result<ConnectionFilter, Vec<Finding>> {
    let mut findings = Findings::default();
    if text.len() > CONNECTION_FILTER_BYTES_MAX {
        let message = format!("must have at most {CONNECTION_FILTER_BYTES_MAX} bytes, has {}", text.len());
        findings.add(path, message);
        return Err(findings.0);
    }
    let read: Expression = match read(text) {
        Ok(read) => read,
        Err((below, message)) => {
            let at = match below.as_str() {
                "." => path.to_owned(),
                below => format!("{path}.{below}"),
            };
            findings.add(at, message);
            return Err(findings.0);
        }
    };
    // The compiler stops building at the maximum of an endpoint: from there on it is this one's.
    let mut regexes = REGEXES_MAX - CONNECTION_FILTER_REGEXES_MAX;
    let compiled = expression::compile_over(&read, path, &mut regexes, Some(Source::Connection), &mut findings);
    if regexes > REGEXES_MAX {
        findings.add(path, format!("must have at most {CONNECTION_FILTER_REGEXES_MAX} \"matches\""));
    }
    match compiled {
        Some(condition) if findings.0.is_empty() => Ok(ConnectionFilter::new(condition)),
        _ => Err(findings.0),
    }
}

fn read(text: &str) -> Result<Expression, (String, String)> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut reader)
        .map_err(|err| (err.path().to_string(), format!("is no condition: {}", err.inner())))?;
    reader.end().map_err(|err| (".".to_owned(), format!("is no condition: {err}")))?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wsgateway_model::expression::RouteScratch;

    fn faults(text: &str) -> String {
        let findings = compile(text, "filter").unwrap_err();
        findings.iter().map(|found| format!("{}: {}", found.path, found.message)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn looks_at_the_description() {
        let ann =
            json!({"user": "ann", "claims": {"plan": "gold", "age": 30}, "groups": ["chat"], "tags": {"beta": true}});
        let mut scratch = RouteScratch::default();
        for (filter, holds) in [
            (json!({"equal": {"path": "$.claims.plan", "value": "gold"}}), true),
            (json!({"equal": {"path": "$.claims.plan", "value": "silver"}}), false),
            (json!({"contains": {"path": "$.groups", "value": "chat", "source": "connection"}}), true),
            (
                json!({"and": [{"gt": {"path": "$.claims.age", "value": 18}}, {"equal": {"path": "$.tags.beta", "value": true}}]}),
                true,
            ),
            (json!({"exists": {"path": "$.tags.alpha"}}), false),
            (json!({"not": {"exists": {"path": "$.tags.alpha"}}}), true),
            (json!({"matches": {"path": "$.user", "value": "^a"}}), true),
        ] {
            let compiled = compile(&filter.to_string(), "filter").unwrap();
            assert_eq!(compiled.holds(&ann, &mut scratch), holds, "{filter}");
        }
    }

    #[test]
    fn faults_name_their_place() {
        for (text, part) in [
            ("", "filter: is no condition: EOF"),
            ("plan=gold", "filter: is no condition: "),
            ("{}", "filter: has no operator"),
            (r#"{"equal": {"path": "$.a", "value": 1}} x"#, "filter: is no condition: trailing"),
            (r#"{"equals": {"path": "$.a", "value": 1}}"#, "filter.equals: is no condition: unknown field `equals`"),
            (r#"{"equal": {"path": 7, "value": 1}}"#, "filter.equal.path: "),
            (r#"{"equal": {"path": "a", "value": 1}}"#, "filter.equal.path: "),
            (r#"{"equal": {"path": "$.a"}}"#, "filter.equal.value: is missing"),
            (r#"{"or": [{"in": {"path": "$.a", "value": 1}}]}"#, "filter.or[0].in.value: must be a list"),
            (r#"{"equal": {"path": "$.a", "value": 1, "source": "event"}}"#, "filter.equal.source: is not there"),
            (r#"{"matches": {"path": "$.a", "value": "("}}"#, "filter.matches.value: is no regular expression"),
        ] {
            let said = faults(text);
            assert!(said.starts_with(part), "{text}: {said}");
        }
        let many = json!({"or": vec![json!({"matches": {"path": "$.a", "value": "x"}}); 5]}).to_string();
        assert_eq!(faults(&many), "filter: must have at most 4 \"matches\"");
        assert!(faults(&" ".repeat(5_000)).contains("at most 4096 bytes, has 5000"));
    }
}
