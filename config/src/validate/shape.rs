//! The schema's verdict in words for people. Called by validate; imports document and findings.

use std::sync::OnceLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::document::{json_schema, EndpointDocument};
use crate::findings::{member, Findings};
use crate::secrets;

/// Schema and validator, made once.
fn schema() -> &'static (Value, Option<Validator>) {
    static SCHEMA: OnceLock<(Value, Option<Validator>)> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let schema = json_schema();
        let validator = jsonschema::validator_for(&schema).ok();
        (schema, validator)
    })
}

/// Reports every fault of shape.
pub fn check(document: &Value, findings: &mut Findings) {
    let Some(validator) = &schema().1 else {
        // Tests prove that it compiles; failing closed is all that is left.
        findings.add("", "cannot be checked: this build's schema is broken");
        return;
    };
    for error in validator.iter_errors(document) {
        report(&error, document, findings);
    }
}

/// The typed document. What still fails here is beyond JSON Schema: 5.0 as a whole number, a field given twice. Does
/// nothing after faults of shape, which it would only repeat.
pub fn document(json: &str, findings: &mut Findings) -> Option<EndpointDocument> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    match serde_path_to_error::deserialize(&mut deserializer) {
        Ok(document) => Some(document),
        Err(error) => {
            let path = error.path().to_string();
            if findings.0.is_empty() {
                findings.add(path.trim_start_matches('.'), error.inner().to_string());
            }
            None
        }
    }
}

fn report(error: &ValidationError<'_>, document: &Value, findings: &mut Findings) {
    let path = path_of(error.instance_path().as_str(), document);
    let instance = error.instance();
    let message = match error.kind() {
        ValidationErrorKind::AnyOf { context } => {
            // Optional objects are "this or null": what is wrong with "this" is the answer.
            let branches = context.iter().filter(|branch| !branch.iter().any(asks_for_null));
            match branches.max_by_key(|branch| branch.iter().map(|e| e.instance_path().as_str().len()).max()) {
                Some(branch) => return branch.iter().for_each(|error| report(error, document, findings)),
                None => "has none of the allowed shapes".to_owned(),
            }
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            for field in unexpected {
                let known = known_fields(error.schema_path().as_str());
                findings.add(member(&path, field), unknown_field(field, &known));
            }
            return;
        }
        ValidationErrorKind::Required { property } => format!("needs the field {property}"),
        ValidationErrorKind::Type { kind } => format!("must be {}, is {}", type_names(kind), shown(&path, instance)),
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().into_iter().flatten().filter(|option| !option.is_null());
            let options: Vec<_> = options.map(Value::to_string).collect();
            format!("must be one of {}, is {}", options.join(", "), shown(&path, instance))
        }
        ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. } => {
            let range = range(error.schema_path().as_str(), "minimum", "maximum");
            format!("must be {range}, is {}", shown(&path, instance))
        }
        ValidationErrorKind::MinLength { .. } | ValidationErrorKind::MaxLength { .. } => {
            let range = range(error.schema_path().as_str(), "minLength", "maxLength");
            let length = instance.as_str().map_or(0, |text| text.chars().count());
            format!("must have {range} characters, has {length}")
        }
        ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MaxItems { .. } => {
            let range = range(error.schema_path().as_str(), "minItems", "maxItems");
            format!("must have {range} entries, has {}", instance.as_array().map_or(0, Vec::len))
        }
        _ if secrets::is_secret(&path) => "is not as the schema wants it".to_owned(),
        _ => error.to_string(),
    };
    findings.add(path, message);
}

fn asks_for_null(error: &ValidationError<'_>) -> bool {
    matches!(error.kind(), ValidationErrorKind::Type { kind } if type_names(kind) == "null")
}

fn type_names(kind: &TypeKind) -> String {
    let named = |name: &str| match name {
        "integer" => "a whole number".to_owned(),
        "number" => "a number".to_owned(),
        "string" => "a string".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "an object".to_owned(),
        other => other.to_owned(),
    };
    match kind {
        TypeKind::Single(only) => named(&only.to_string()),
        TypeKind::Multiple(set) => {
            let names: Vec<_> = set.iter().map(|t| t.to_string()).filter(|t| t != "null").map(|t| named(&t)).collect();
            names.join(" or ")
        }
    }
}

/// The value, or for a long or a secret one its kind.
fn shown(path: &str, value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(_) if secrets::is_secret(path) => "a string".to_owned(),
        Value::Number(_) if secrets::is_secret(path) => "a number".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "a long string".to_owned(),
        other => other.to_string(),
    }
}

/// Both ends of a range, wherever the keyword at `schema_path` stands.
fn range(schema_path: &str, low: &str, high: &str) -> String {
    let parent = resolve(schema_path.rsplit_once('/').map_or("", |(parent, _)| parent));
    let end = |name: &str| parent.and_then(|parent| parent.get(name)).map(Value::to_string);
    match (end(low), end(high)) {
        (Some(low), Some(high)) => format!("{low}–{high}"),
        (Some(low), None) => format!("at least {low}"),
        (None, Some(high)) => format!("at most {high}"),
        (None, None) => "in range".to_owned(),
    }
}

/// Names that the object at which `additionalProperties` stands does know.
fn known_fields(schema_path: &str) -> Vec<&'static str> {
    let parent = resolve(schema_path.rsplit_once('/').map_or("", |(parent, _)| parent));
    let properties = parent.and_then(|parent| parent.get("properties")).and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// The schema at a path that may pass through `$ref`.
fn resolve(schema_path: &str) -> Option<&'static Value> {
    let root = &schema().0;
    let mut at = root;
    for step in schema_path.split('/').filter(|step| !step.is_empty()) {
        at = match at {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => at.get(step.replace("~1", "/").replace("~0", "~"))?,
        };
        if step == "$ref" {
            at = root.pointer(at.as_str()?.strip_prefix('#')?)?;
        }
    }
    Some(at)
}

fn unknown_field(field: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|name| (distance(field, name), *name)).min();
    match nearest.filter(|(distance, name)| *distance <= 1.max(name.len() / 3)) {
        Some((_, name)) => format!("unknown field {field:?}; did you mean {name:?}?"),
        None => format!("unknown field {field:?} is not known here"),
    }
}

/// Levenshtein's distance, ignoring case.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.to_lowercase(), right.to_lowercase());
    let right: Vec<char> = right.chars().collect();
    // A document may hold a field of any length; a known one is short.
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// `/routes/3/name` as `routes[3].name`; digits are an index only where the document has a list.
fn path_of(pointer: &str, document: &Value) -> String {
    let mut path = String::new();
    let mut at = Some(document);
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        match at {
            Some(Value::Array(items)) => {
                path = format!("{path}[{step}]");
                at = step.parse::<usize>().ok().and_then(|index| items.get(index));
            }
            _ => {
                path = member(&path, &step);
                at = at.and_then(|value| value.get(&step));
            }
        }
    }
    path
}
