//! One administrative call: method, path, handler, and what the reference says of it. Both the router and the OpenAPI
//! document are made from these, so neither can have a call that the other lacks (ADR 0024). Schemas come from the very
//! types that are read and written. Used by admin's modules; imports nothing of theirs but access and problem.

use actix_web::http::header::ALLOW;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{web, HttpRequest, HttpResponse, Resource, ResponseError, Route};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::access::Access;
use super::aws_api;
use super::problem::Problem;
use super::request::without_query;

/// Makes the schema of a type; types of their own go among the generator's definitions.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

pub const JSON: &str = "application/json";

/// Most calls are below this and share one look at the token.
const SCOPE: &str = "/api/v1";

/// How its errors look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// RFC 9457, with these codes.
    Problems,
    /// `x-amzn-ErrorType` and `{"message"}`.
    Aws,
}

/// A call; see the module.
pub struct Operation {
    pub method: Method,
    pub path: &'static str,
    handler: fn() -> Route,
    /// Its name in the document.
    pub id: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    /// Answered without a token.
    pub open: bool,
    pub errors: Errors,
    pub query: Option<SchemaOf>,
    /// Request headers that it looks at.
    pub headers: Vec<&'static str>,
    pub body: Option<Body>,
    pub answers: Vec<Answer>,
    /// Status and `code`, or the name that AWS has for it.
    pub problems: Vec<(u16, &'static str)>,
}

/// A request body.
pub struct Body {
    pub content_types: &'static [&'static str],
    pub schema: SchemaOf,
    pub example: Value,
}

/// An answer that is no error.
pub struct Answer {
    pub status: u16,
    pub description: &'static str,
    pub content: Option<(&'static str, SchemaOf)>,
    pub headers: &'static [&'static str],
}

impl Operation {
    fn new(method: Method, path: &'static str, handler: fn() -> Route, id: &'static str) -> Operation {
        Operation {
            method,
            path,
            handler,
            id,
            summary: "",
            description: "",
            open: false,
            errors: Errors::Problems,
            query: None,
            headers: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub fn get(path: &'static str, handler: fn() -> Route, id: &'static str) -> Operation {
        Operation::new(Method::GET, path, handler, id)
    }

    pub fn post(path: &'static str, handler: fn() -> Route, id: &'static str) -> Operation {
        Operation::new(Method::POST, path, handler, id)
    }

    pub fn put(path: &'static str, handler: fn() -> Route, id: &'static str) -> Operation {
        Operation::new(Method::PUT, path, handler, id)
    }

    pub fn delete(path: &'static str, handler: fn() -> Route, id: &'static str) -> Operation {
        Operation::new(Method::DELETE, path, handler, id)
    }

    /// One line for lists, and what else is to be known.
    pub fn about(mut self, summary: &'static str, description: &'static str) -> Operation {
        (self.summary, self.description) = (summary, description);
        self
    }

    pub fn open(mut self) -> Operation {
        self.open = true;
        self
    }

    /// Its query parameters are the members of this type, which refuses others.
    pub fn query<T: JsonSchema>(mut self) -> Operation {
        self.query = Some(SchemaGenerator::subschema_for::<T>);
        self.problem(400, "invalid_query")
    }

    /// The same for a call that does not look at others.
    pub fn ignores_unknown_query<T: JsonSchema>(mut self) -> Operation {
        self.query = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// Its errors are what AWS SDKs read.
    pub fn for_aws(mut self) -> Operation {
        self.errors = Errors::Aws;
        self.problem(403, "ForbiddenException")
            .problem(429, "LimitExceededException")
            .problem(503, "ServiceUnavailableException")
    }

    pub fn header(mut self, name: &'static str) -> Operation {
        self.headers.push(name);
        self
    }

    /// A write to the configuration: what all of them have.
    pub fn writes(self) -> Operation {
        self.header("Idempotency-Key")
            .problems(400, &["invalid_idempotency_key", "invalid_header"])
            .problem(503, "no_leader")
            .problem(503, "outcome_unknown")
            .problem(503, "committed_not_visible")
            .problem(503, "storage_failed")
            .problem(507, "disk_full")
    }

    /// A write that If-Match can make depend on the active version.
    pub fn if_match(self) -> Operation {
        self.header("If-Match").problem(400, "invalid_header").problem(412, "version_mismatch")
    }

    pub fn body<T: JsonSchema>(mut self, content_types: &'static [&'static str], example: Value) -> Operation {
        self.body = Some(Body { content_types, schema: SchemaGenerator::subschema_for::<T>, example });
        self
    }

    /// Without query parameters of its own it takes none; those that programs probe and scrape do not look at them.
    pub fn refuses_query(&self) -> bool {
        self.query.is_none() && self.errors == Errors::Problems && self.path.starts_with("/api/")
    }

    /// An answer with a JSON body.
    pub fn answers<T: JsonSchema>(self, status: u16, description: &'static str) -> Operation {
        self.answers_as::<T>(status, description, JSON, &[])
    }

    pub fn answers_as<T: JsonSchema>(
        mut self,
        status: u16,
        description: &'static str,
        content_type: &'static str,
        headers: &'static [&'static str],
    ) -> Operation {
        let content = Some((content_type, SchemaGenerator::subschema_for::<T> as SchemaOf));
        self.answers.push(Answer { status, description, content, headers });
        self
    }

    /// An answer without a body.
    pub fn answers_empty(mut self, status: u16, description: &'static str) -> Operation {
        self.answers.push(Answer { status, description, content: None, headers: &[] });
        self
    }

    pub fn problem(mut self, status: u16, code: &'static str) -> Operation {
        self.problems.push((status, code));
        self
    }

    pub fn problems(mut self, status: u16, codes: &[&'static str]) -> Operation {
        self.problems.extend(codes.iter().map(|code| (status, *code)));
        self
    }
}

/// Serves these calls; other methods of their paths are answered 405.
pub fn register(app: &mut web::ServiceConfig, operations: &[Operation], access: &Access) {
    let mut scope = web::scope(SCOPE).wrap(access.clone());
    let mut paths: Vec<&str> = Vec::new();
    for operation in operations {
        if paths.contains(&operation.path) {
            continue;
        }
        paths.push(operation.path);
        let of_path: Vec<&Operation> = operations.iter().filter(|other| other.path == operation.path).collect();
        match operation.path.strip_prefix(SCOPE) {
            Some(below) => scope = scope.service(resource(below, &of_path)),
            // Calls for AWS SDKs look at the token themselves: they have errors of their own.
            None if operation.open || operation.errors == Errors::Aws => {
                app.service(resource(operation.path, &of_path));
            }
            None => {
                app.service(resource(operation.path, &of_path).wrap(access.clone()));
            }
        }
    }
    app.service(scope);
}

fn resource(path: &str, operations: &[&Operation]) -> Resource {
    let mut resource = web::resource(path);
    for operation in operations {
        let route = (operation.handler)().method(operation.method.clone());
        resource = resource.route(match operation.refuses_query() {
            true => route.wrap(from_fn(without_query)),
            false => route,
        });
    }
    let methods: Vec<&str> = operations.iter().map(|operation| operation.method.as_str()).collect();
    let allow = methods.join(", ");
    let errors = operations.first().map_or(Errors::Problems, |operation| operation.errors);
    resource.default_service(web::to(move |request: HttpRequest| {
        let allow = allow.clone();
        async move { method_not_allowed(&request, &allow, errors) }
    }))
}

pub fn method_not_allowed(request: &HttpRequest, allow: &str, errors: Errors) -> HttpResponse {
    let detail = format!("{} is not for {}; allowed: {allow}", request.method(), request.path());
    let mut answer = match errors {
        Errors::Problems => Problem::new(405, "method_not_allowed", detail).error_response(),
        Errors::Aws => aws_api::not_allowed(detail),
    };
    if let Ok(allow) = allow.try_into() {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
}
