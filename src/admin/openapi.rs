//! `GET /api/openapi.json`: the OpenAPI 3.1 document of everything that the admin listener serves, made from the
//! operations that the router is made from. Called by admin's root; imports operation and the types of errors.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use actix_web::{web, HttpResponse};
use bytes::Bytes;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{json, Map, Value};

use super::operation::{Answer, Errors, Operation, SchemaOf, JSON};
use super::problem::Problem;
use super::rules::{self, Found};
use crate::access::Role;

const SCHEMAS: &str = "/components/schemas";
pub const PROBLEM: &str = "application/problem+json";

#[derive(Clone, Copy, Default)]
struct PathParameter {
    name: &'static str,
    description: &'static str,
    example: &'static str,
    /// A whole number; else a text.
    number: bool,
}

const fn text(name: &'static str, description: &'static str, example: &'static str) -> PathParameter {
    PathParameter { name, description, example, number: false }
}

const PATH_PARAMETERS: &[PathParameter] = &[
    text("id", "Id of an endpoint, or of a token", "ep-88d37f9f5813ea3a"),
    PathParameter { name: "version", description: "Number of a stored version", example: "", number: true },
    text("cid", "Connection id", "AWCg6TxqnVveAAAAAAAAAAGbDChuqzzRLqXfp1p8lGk0"),
    text("user", "Who clients are known as", "alice"),
    text("group", "1–255 bytes without control characters", "chat-7"),
    text("stage", "Stage of AWS's API Gateway; not looked at", "production"),
];

/// Request headers, by name.
const HEADERS: &[(&str, &str)] = &[
    ("Idempotency-Key", "1–255 characters; a repeated write with the same key is answered from what the first one did"),
    ("If-Match", "The ETag of the version that must be active, such as \"3\"; else 412"),
];

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/openapi.json", || web::to(document), "getReference")
        .about("This document", "OpenAPI 3.1, made from the code that serves.")
        .answers::<BTreeMap<String, Value>>(200, "The document")]
}

async fn document() -> HttpResponse {
    // The same for every node of a build.
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| Bytes::from(openapi(&super::operations()).to_string()));
    HttpResponse::Ok().content_type(JSON).body(text.clone())
}

/// The document.
pub fn openapi(operations: &[Operation]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let item = paths.entry(operation.path).or_insert_with(|| json!({"parameters": path_parameters(operation)}));
        item[operation.method.as_str().to_ascii_lowercase()] = described(operation, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "WSGateway",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The admin listener, the same on every node",
            "description": "Writes may be sent to any node. Errors are problem documents (RFC 9457), but those of the \
                            AWS-compatible calls. Times are RFC 3339 in UTC.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This node"}],
        "tags": [
            {"name": "endpoints", "description": "Endpoints, their versions, and what they would do"},
            {"name": "connections", "description": "Messages to clients, and who they are"},
            {"name": "aws", "description": "The same, for AWS SDKs: set their endpoint URL to the admin listener's"},
            {"name": "cluster", "description": "Nodes, health and figures"},
            {"name": "access", "description": "Tokens and what was done with them"},
            {"name": "reference", "description": "What may be said, as schemas"},
        ],
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token. Needed once there is an admin token."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key",
                    "description": "The same token, where Authorization is taken: it wins over that."},
            },
        },
    })
}

/// What is sent and what is answered are described by different rules (a member that is left out when empty is
/// optional to readers), so each has its generator; both collect their definitions here.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Schemas {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.meta_schema = None;
        });
        let mut requests = settings.clone().for_deserialize().into_generator();
        // Answers refer to it by name.
        requests.subschema_for::<crate::config::document::EndpointDocument>();
        Schemas { requests, answers: settings.for_serialize().into_generator() }
    }

    fn definitions(mut self) -> Value {
        let mut all = self.answers.take_definitions(true);
        for (name, schema) in self.requests.take_definitions(true) {
            // A name that both have must mean the same; a test looks.
            all.insert(name, schema);
        }
        Value::Object(all)
    }
}

fn path_parameters(operation: &Operation) -> Vec<Value> {
    let names = operation.path.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(name, _)| name));
    let parameter = |name: &str| {
        let known = PATH_PARAMETERS.iter().find(|known| known.name == name);
        let PathParameter { description, example, number, .. } = known.copied().unwrap_or_default();
        let (schema, example) = match number {
            true => (json!({"type": "integer", "minimum": 1}), json!(1)),
            false => (json!({"type": "string", "minLength": 1}), json!(example)),
        };
        json!({"name": name, "in": "path", "required": true, "description": description, "example": example,
            "schema": schema})
    };
    names.map(parameter).collect()
}

fn tag(operation: &Operation) -> &'static str {
    let path = operation.path;
    let starts = |part: &str| path.starts_with(part);
    match operation.errors {
        Errors::Aws => "aws",
        Errors::Problems if path.ends_with("/broadcast") => "connections",
        Errors::Problems if starts("/api/v1/endpoints") => "endpoints",
        Errors::Problems if starts("/api/v1/connections") || starts("/api/v1/users") => "connections",
        Errors::Problems if starts("/api/v1/groups") || path == "/api/v1/push" => "connections",
        Errors::Problems if starts("/api/v1/tokens") || starts("/api/v1/audit") => "access",
        Errors::Problems if starts("/api/v1/schemas") || starts("/api/openapi") => "reference",
        Errors::Problems => "cluster",
    }
}

/// What the table of rules says.
fn role(operation: &Operation) -> Option<Role> {
    match rules::find(operation.method.as_str(), operation.path) {
        Found::Rule(rule) => rule.role,
        Found::OtherMethod | Found::Nothing => None,
    }
}

fn described(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "tags": [tag(operation)],
        "summary": operation.summary,
        "parameters": parameters(operation, schemas),
        "responses": responses(operation, schemas),
    });
    let needs = role(operation).map_or_else(String::new, |role| format!("Needs a token with the role {role}."));
    let description = [operation.description, &needs].join(" ");
    if !description.trim().is_empty() {
        described["description"] = description.trim().into();
    }
    if operation.open {
        described["security"] = json!([]);
    }
    if let Some(body) = &operation.body {
        let schema = (body.schema)(&mut schemas.requests);
        let media = |kind: &&'static str| {
            ((*kind).to_owned(), json!({"schema": schema.clone(), "examples": {"example": {"value": body.example}}}))
        };
        let content: Map<String, Value> = body.content_types.iter().map(media).collect();
        described["requestBody"] = json!({"required": true, "content": content});
    }
    described
}

/// Query parameters are the members of a type; a parameter cannot be null.
fn parameters(operation: &Operation, schemas: &mut Schemas) -> Vec<Value> {
    let mut parameters = Vec::new();
    if let Some(query) = operation.query {
        let schema = inlined(query, &mut schemas.requests);
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut member = member.clone();
            let description = member.as_object_mut().and_then(|member| member.remove("description"));
            without_null(&mut member);
            parameters.push(json!({"name": name, "in": "query", "required": required.contains(&name.as_str().into()),
                "description": description.unwrap_or_default(), "schema": member}));
        }
    }
    for name in &operation.headers {
        let description = HEADERS.iter().find(|(known, _)| known == name).map_or("", |(_, description)| description);
        parameters.push(json!({"name": name, "in": "header", "required": false, "description": description,
            "schema": {"type": "string"}}));
    }
    parameters
}

/// The schema itself where the generator answers a reference.
fn inlined(schema: SchemaOf, generator: &mut SchemaGenerator) -> Value {
    let schema = schema(generator).to_value();
    let named = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.rsplit('/').next());
    match named {
        // Parameters are described one by one: the type is no component of the document.
        Some(name) => generator.definitions_mut().remove(name).unwrap_or_default(),
        None => schema,
    }
}

fn without_null(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    // An optional type of its own: that type or null.
    if let Some(Value::Array(mut choices)) = schema.remove("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        match choices.as_mut_slice() {
            [Value::Object(only)] => schema.append(only),
            _ => drop(schema.insert("anyOf".to_owned(), choices.into())),
        }
    }
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for answer in &operation.answers {
        responses.insert(answer.status.to_string(), answered(answer, schemas));
    }
    let mut problems: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for (status, code) in general_problems(operation).into_iter().chain(operation.problems.iter().copied()) {
        let codes = problems.entry(status).or_default();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    for (status, codes) in problems {
        let described = match operation.errors {
            Errors::Problems => problem(status, &codes, schemas),
            Errors::Aws => aws_error(status, &codes),
        };
        responses.insert(status.to_string(), described);
    }
    Value::Object(responses)
}

/// What every call of a kind may be answered.
fn general_problems(operation: &Operation) -> Vec<(u16, &'static str)> {
    let mut problems = Vec::new();
    if operation.errors == Errors::Problems {
        if !operation.open {
            problems.extend([(401, "unauthenticated"), (429, "too_many_guesses"), (503, "not_ready")]);
            if role(operation).is_some_and(|role| role > Role::Viewer) {
                problems.push((403, "forbidden"));
            }
        }
        if operation.refuses_query() {
            problems.push((400, "invalid_query"));
        }
        if operation.body.is_some() {
            problems.extend([(400, "invalid_body"), (413, "too_big")]);
        }
        // What is stored may not be readable.
        if operation.path.starts_with("/api/v1/endpoints") {
            problems.extend([(503, "storage_failed"), (500, "stored_document_broken")]);
        }
    }
    problems
}

fn answered(answer: &Answer, schemas: &mut Schemas) -> Value {
    let mut described = json!({"description": answer.description});
    if let Some((content_type, schema)) = answer.content {
        described["content"] = json!({content_type: {"schema": schema(&mut schemas.answers)}});
    }
    let headers: Map<String, Value> = answer.headers.iter().map(|name| ((*name).to_owned(), header(name))).collect();
    if !headers.is_empty() {
        described["headers"] = headers.into();
    }
    described
}

fn header(name: &str) -> Value {
    let description = match name {
        "ETag" => "The number of the active version, in quotes",
        "Location" => "Where the new resource is",
        "Retry-After" => "Seconds",
        "WWW-Authenticate" => "Bearer",
        "x-amzn-ErrorType" => "The error's name",
        _ => "",
    };
    let kind = if name == "Retry-After" { "integer" } else { "string" };
    json!({"description": description, "required": true, "schema": {"type": kind}})
}

fn problem(status: u16, codes: &[&str], schemas: &mut Schemas) -> Value {
    let any = schemas.answers.subschema_for::<Problem>();
    let example = Problem::new(status, "example", "what is wrong, for people");
    let mut example = serde_json::to_value(&example).unwrap_or_default();
    example["code"] = codes.first().copied().unwrap_or_default().into();
    let described = json!({"allOf": [any, {"properties": {"status": {"const": status}, "code": {"enum": codes}}}]});
    let mut answer = json!({
        "description": codes.join(", "),
        "content": {PROBLEM: {"schema": described, "example": example}},
    });
    let headers: &[&str] = match status {
        401 => &["WWW-Authenticate"],
        429 | 503 => &["Retry-After"],
        _ => &[],
    };
    for name in headers {
        answer["headers"][*name] = header(name);
    }
    answer
}

fn aws_error(status: u16, kinds: &[&str]) -> Value {
    let mut answer = json!({
        "description": kinds.join(", "),
        "headers": {"x-amzn-ErrorType": header("x-amzn-ErrorType")},
        "content": {JSON: {"schema": {"type": "object", "properties": {"message": {"type": "string"}},
            "required": ["message"], "additionalProperties": false}}},
    });
    answer["headers"]["x-amzn-ErrorType"]["schema"]["enum"] = kinds.into();
    if matches!(status, 429 | 503) {
        answer["headers"]["Retry-After"] = header("Retry-After");
    }
    answer
}

/// The document of the reference's examples.
pub const EXAMPLE: &str = r#"{"path": "/shop/{country}", "name": "The shop", "routes": [
    {"type": "default", "name": "orders", "backends": [{"type": "http", "destination": "http://127.0.0.1:3000/orders"}]}]}"#;

/// Of a member that holds an endpoint document: by name, since what is stored is described as what was sent.
pub fn document_schema(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({"$ref": "#/components/schemas/EndpointDocument"})
}

/// Of a member that may be any JSON.
pub fn any_json(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!(true)
}

/// One or the other.
pub struct Either<A, B>(std::marker::PhantomData<(A, B)>);

impl<A: JsonSchema, B: JsonSchema> JsonSchema for Either<A, B> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}Or{}", A::schema_name(), B::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (a, b) = (generator.subschema_for::<A>(), generator.subschema_for::<B>());
        schemars::json_schema!({"anyOf": [a, b]})
    }
}

/// Text that is no JSON.
pub struct Text;

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything below `value` that refers somewhere.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_is_told_apart() {
        let operations = crate::admin::operations();
        let document = openapi(&operations);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{} references", found.len());
        for reference in found {
            let at = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(at).is_some(), "{reference} leads nowhere");
        }
        let mut ids: Vec<&str> = operations.iter().map(|operation| operation.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), operations.len(), "operation ids are unique");
        for operation in &operations {
            let (id, path) = (operation.id, operation.path);
            assert!(!operation.summary.is_empty() && !operation.answers.is_empty(), "{id} says what it does");
            let described = &document["paths"][path][operation.method.as_str().to_ascii_lowercase()];
            assert_eq!(described["operationId"], id);
            for parameter in document["paths"][path]["parameters"].as_array().expect("a list") {
                assert_ne!(parameter["description"], "", "a parameter of {path}: {parameter}");
            }
            for parameter in described["parameters"].as_array().expect("a list") {
                assert_ne!(parameter["description"], "", "a parameter of {id}: {parameter}");
                assert!(
                    parameter["schema"].get("type").is_some() || parameter["schema"].get("enum").is_some(),
                    "{id}: {parameter}"
                );
            }
        }
    }

    #[test]
    fn requests_and_answers_do_not_call_two_things_by_one_name() {
        let mut schemas = Schemas::new();
        for operation in crate::admin::operations() {
            described(&operation, &mut schemas);
        }
        let answers = schemas.answers.take_definitions(true);
        for (name, schema) in schemas.requests.take_definitions(true) {
            assert!(answers.get(&name).is_none_or(|other| *other == schema), "two schemas are called {name}");
        }
    }

    /// The sources of admin but for the two that make router and document.
    fn sources() -> Vec<(std::path::PathBuf, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin");
        let paths = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
        let own = |path: &std::path::PathBuf| path.ends_with("operation.rs") || path.ends_with("openapi.rs");
        let wanted = paths.filter(|path| path.is_file() && !own(path));
        wanted.map(|path| (path.clone(), std::fs::read_to_string(path).expect("a source"))).collect()
    }

    #[test]
    fn every_code_of_a_problem_is_one_of_an_operation() {
        let operations = crate::admin::operations();
        let mut documented: Vec<(u16, &str)> = operations.iter().flat_map(general_problems).collect();
        documented.extend(operations.iter().flat_map(|operation| operation.problems.iter().copied()));
        // Of what is no operation.
        documented.extend([(404, "not_found"), (405, "method_not_allowed")]);
        let mut found = 0;
        for (path, source) in sources() {
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for call in source.split("Problem::new(").skip(1) {
                let mut arguments = call.splitn(3, ',').map(str::trim);
                let (status, code) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
                let (Ok(status), Some(code)) = (status.parse::<u16>(), code.strip_prefix('"')) else { continue };
                let code = code.trim_end_matches('"');
                assert!(documented.contains(&(status, code)), "{}: {status} {code} is in no operation", path.display());
                found += 1;
            }
        }
        assert!(found > 20, "{found} codes");
    }

    #[test]
    fn nothing_is_routed_but_what_is_described() {
        let mut read = 0;
        // The UI's files are no calls.
        for (path, source) in sources().into_iter().filter(|(path, _)| !path.ends_with("ui.rs")) {
            for call in ["web::resource(", "web::scope(", ".service(", ".route("] {
                let routed = source.lines().any(|line| line.contains(call) && !line.contains("self.service"));
                assert!(!routed, "{} calls {call}: describe it as an Operation", path.display());
            }
            read += 1;
        }
        assert!(read > 8);
    }
}
