//! An endpoint document as somebody sends it, in JSON or YAML: read, validated, compiled, shown without its secrets, sent
//! back, compared. Shared by the fuzz target and `tests/fuzz_corpus.rs`.

use serde_json::Value;
use wsgateway_config::compile::compile;
use wsgateway_config::diff::diff;
use wsgateway_config::secrets::{check_sent, redacted_for_reading, restore_redacted};
use wsgateway_config::source_text::{Format, SourceText};
use wsgateway_config::validate::{validate, NodeFacts};
use wsgateway_model::json_check::validate_json;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let node = NodeFacts::default();
    let plain = validate(text, &node).is_ok();
    for format in [Format::Json, Format::Yaml] {
        let Ok(source) = SourceText::read(text, format) else { continue };
        assert!(validate_json(source.json.as_bytes()).is_ok(), "what is read is JSON: {}", source.json);
        // A number beyond f64 is JSON, but no document's.
        let value: Option<Value> = serde_json::from_str(&source.json).ok();
        match validate(&source.json, &node) {
            Err(findings) => {
                assert!(!findings.is_empty(), "refused without a reason");
                for finding in &findings {
                    let _ = source.place(&finding.path);
                    assert!(!finding.message.is_empty(), "no message at {:?}", finding.path);
                }
                assert!(
                    !plain || format == Format::Yaml || source.tests.is_some(),
                    "the same text is refused: {findings:?}"
                );
            }
            Ok(valid) => {
                let value = value.expect("a tree holds what is valid");
                assert!(diff(&value, &value).is_empty(), "a document differs from itself");
                let compiled = compile("ep-1", 1, &valid.document);
                let endpoint = compiled.unwrap_or_else(|findings| panic!("valid, but does not compile: {findings:?}"));
                let _ = endpoint.looked_at();
                secrets_stay_hidden(&source.json);
            }
        }
    }
}

/// Shown, a document hides its secrets; what was shown and comes back is the document again.
fn secrets_stay_hidden(document: &str) {
    check_sent(document).expect("a valid document is JSON");
    let shown = redacted_for_reading(document).expect("a valid document can be shown");
    serde_json::from_str::<Value>(&shown).expect("what is shown is JSON");
    let twice = redacted_for_reading(&shown).expect("what is shown can be shown");
    assert_eq!(shown, twice, "something was hidden only the second time");
    let back = restore_redacted(&shown, document).expect("what was shown is read");
    serde_json::from_str::<Value>(&back).expect("what is restored is JSON");
}
