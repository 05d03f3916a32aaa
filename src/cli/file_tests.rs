//! The `tests` of an endpoint file: an event (and the connection it comes from), and what is expected of it. Run
//! offline by the engine of `explain`, so by the code that serves. Called by `check`; the server never sees them.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;

use super::explain::{compiled, here};
use super::files::EndpointFile;
use crate::config::findings::Finding;
use crate::config::validate::NodeFacts;
use crate::explain::{explain, ConnectionInput, Explained};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTest {
    /// For people.
    name: Option<String>,
    /// The event; a YAML file's as compact JSON.
    event: Option<Box<RawValue>>,
    /// Instead: a text that may be no JSON.
    text: Option<String>,
    #[serde(default)]
    connection: ConnectionInput,
    expect: Expect,
}

/// What is given is compared, at least one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// Name of the only route that the event takes.
    route: Option<String>,
    /// Names of all routes that it takes, in order; none: it is rejected.
    routes: Option<Vec<String>>,
    /// Code of the error that the client is told.
    error: Option<String>,
    /// What the backends of the first route are sent.
    output: Option<Value>,
    /// What the client is sent at once, frame by frame: acknowledgements, echoes, an error. A frame may have more
    /// members than are given here (ids are different each time).
    client: Option<Vec<Value>>,
    /// `POST http://…`, `kafka topic`, `echo`, of all routes in order.
    backends: Option<Vec<String>>,
}

/// How many tests passed, and a line for everything that did not.
pub fn run(file: &EndpointFile, facts: &NodeFacts) -> (usize, Vec<String>) {
    let Some(text) = &file.source.tests else { return (0, Vec::new()) };
    let line = |path: String, message: String| file.located(&Finding { path, message });
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let tests: Vec<FileTest> = match serde_path_to_error::deserialize(&mut deserializer) {
        Ok(tests) => tests,
        Err(error) => {
            let path = error.path().to_string();
            let dot = if path.starts_with('[') { "" } else { "." };
            let path = if path == "." { "tests".to_owned() } else { format!("tests{dot}{path}") };
            return (0, vec![line(path, plain(&error.inner().to_string()))]);
        }
    };
    let endpoint = match compiled(file, facts) {
        Ok(endpoint) => endpoint,
        Err(lines) => return (0, lines),
    };
    let (mut passed, mut wrong) = (0, Vec::new());
    for (index, test) in tests.iter().enumerate() {
        let at = format!("tests[{index}]");
        let label = test.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        let event = match (&test.event, &test.text) {
            (Some(event), None) => event.get(),
            (None, Some(text)) => text,
            _ => {
                wrong.push(line(at, format!("needs either an \"event\" or a \"text\"{label}")));
                continue;
            }
        };
        let before = wrong.len();
        match explain(&endpoint, event.as_bytes(), &test.connection, &here()) {
            Ok(explained) => {
                for (field, message) in differences(&test.expect, &explained) {
                    wrong.push(line(format!("{at}.expect{field}"), format!("{message}{label}")));
                }
            }
            Err(findings) => {
                wrong.extend(findings.into_iter().map(|found| line(format!("{at}.{}", found.path), found.message)));
            }
        }
        passed += usize::from(wrong.len() == before);
    }
    (passed, wrong)
}

/// serde_json's own places are those of a text that nobody sees.
fn plain(message: &str) -> String {
    message.split(" at line ").next().unwrap_or_default().to_owned()
}

/// Whether a value is as expected, but for members of objects that nothing is expected of.
fn contains(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Object(value), Value::Object(expected)) => {
            expected.iter().all(|(name, expected)| value.get(name).is_some_and(|value| contains(value, expected)))
        }
        _ => value == expected,
    }
}

/// Field and message of each expectation that does not hold.
fn differences(expect: &Expect, explained: &Explained) -> Vec<(&'static str, String)> {
    let is_error = explained.outcome == "rejected";
    let names: Vec<&str> = match is_error {
        true => Vec::new(),
        false => explained.taken.iter().map(|taken| taken.name.as_str()).collect(),
    };
    let happens = match &explained.error {
        Some(error) => format!("the event is {}: {}: {}", explained.outcome, error.code, error.message),
        None => format!("the event takes {names:?}"),
    };
    let mut found = Vec::new();
    if let Some(route) = &expect.route {
        if names != [route.as_str()] {
            found.push((".route", format!("is {route:?}, but {happens}")));
        }
    }
    if let Some(routes) = &expect.routes {
        if names != *routes {
            found.push((".routes", format!("is {routes:?}, but {happens}")));
        }
    }
    if let Some(code) = &expect.error {
        if explained.error.as_ref().is_none_or(|error| error.code != *code) {
            found.push((".error", format!("is {code:?}, but {happens}")));
        }
    }
    if let Some(output) = &expect.output {
        let body = explained.taken.first().map_or("null", |taken| taken.body.get());
        if serde_json::from_str::<Value>(body).ok().as_ref() != Some(output) {
            found.push((".output", format!("is {output}, but {body} is sent")));
        }
    }
    if let Some(backends) = &expect.backends {
        let requests = explained.taken.iter().flat_map(|taken| &taken.requests);
        let sent: Vec<_> = requests.map(|request| request.what.summary()).collect();
        if sent != *backends {
            found.push((".backends", format!("is {backends:?}, but {sent:?} are sent")));
        }
    }
    if let Some(frames) = &expect.client {
        let sent: Vec<_> = explained.client.iter().map(|frame| frame.get()).collect();
        let holds = sent.len() == frames.len()
            && sent.iter().zip(frames).all(|(sent, expected)| {
                serde_json::from_str::<Value>(sent).is_ok_and(|sent| contains(&sent, expected))
            });
        if !holds {
            found.push((".client", format!("is {}, but the client is sent {sent:?}", Value::from(frames.clone()))));
        }
    }
    let given = [
        expect.route.is_some(),
        expect.routes.is_some(),
        expect.error.is_some(),
        expect.output.is_some(),
        expect.client.is_some(),
        expect.backends.is_some(),
    ];
    if !given.contains(&true) {
        found.push(("", "expects nothing; give route, routes, error, output, client or backends".to_owned()));
    }
    found
}
