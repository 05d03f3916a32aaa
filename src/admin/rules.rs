//! Which role each route needs: the only such table. `access` goes by it, so a route that is not here is not there: it
//! answers 404 whoever asks. Within one path, literal segments stand before `{…}` ones. Plain data; also for whoever
//! describes the API.

use crate::access::Role;

/// One route. Braces stand for one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub method: &'static str,
    pub path: &'static str,
    /// None: no token is asked for.
    pub role: Option<Role>,
}

const fn open(method: &'static str, path: &'static str) -> Rule {
    Rule { method, path, role: None }
}

const fn viewer(method: &'static str, path: &'static str) -> Rule {
    Rule { method, path, role: Some(Role::Viewer) }
}

const fn publisher(method: &'static str, path: &'static str) -> Rule {
    Rule { method, path, role: Some(Role::Publisher) }
}

const fn editor(method: &'static str, path: &'static str) -> Rule {
    Rule { method, path, role: Some(Role::Editor) }
}

const fn admin(method: &'static str, path: &'static str) -> Rule {
    Rule { method, path, role: Some(Role::Admin) }
}

pub const RULES: &[Rule] = &[
    open("GET", "/livez"),
    open("GET", "/readyz"),
    viewer("GET", "/metrics"),
    viewer("GET", "/api/openapi.json"),
    viewer("GET", "/api/v1/schemas/endpoint"),
    viewer("GET", "/api/v1/endpoints"),
    editor("POST", "/api/v1/endpoints"),
    viewer("GET", "/api/v1/endpoints/{id}"),
    editor("PUT", "/api/v1/endpoints/{id}"),
    editor("DELETE", "/api/v1/endpoints/{id}"),
    viewer("GET", "/api/v1/endpoints/{id}/versions"),
    viewer("GET", "/api/v1/endpoints/{id}/versions/{version}"),
    editor("POST", "/api/v1/endpoints/{id}/versions/{version}/activate"),
    viewer("GET", "/api/v1/endpoints/{id}/diff"),
    // A document with a guessed password differs from the stored one, or not: who asks must be one who may change it.
    editor("POST", "/api/v1/endpoints/{id}/diff"),
    // Of what is stored; with a document of the caller's own, its handler asks for an editor.
    viewer("POST", "/api/v1/endpoints/{id}/explain"),
    editor("POST", "/api/v1/endpoints/{id}/replay"),
    viewer("GET", "/api/v1/endpoints/{id}/rollout"),
    viewer("GET", "/api/v1/endpoints/{id}/asyncapi"),
    viewer("GET", "/api/v1/connections"),
    viewer("GET", "/api/v1/connections/{cid}"),
    publisher("POST", "/api/v1/connections/{cid}"),
    editor("DELETE", "/api/v1/connections/{cid}"),
    publisher("PUT", "/api/v1/connections/{cid}/tags"),
    publisher("POST", "/api/v1/push"),
    publisher("POST", "/api/v1/users/{user}"),
    publisher("POST", "/api/v1/groups/{group}"),
    publisher("PUT", "/api/v1/groups/{group}/connections/{cid}"),
    publisher("DELETE", "/api/v1/groups/{group}/connections/{cid}"),
    publisher("POST", "/api/v1/endpoints/{id}/broadcast"),
    viewer("GET", "/@connections/{cid}"),
    publisher("POST", "/@connections/{cid}"),
    editor("DELETE", "/@connections/{cid}"),
    viewer("GET", "/{stage}/@connections/{cid}"),
    publisher("POST", "/{stage}/@connections/{cid}"),
    editor("DELETE", "/{stage}/@connections/{cid}"),
    viewer("GET", "/api/v1/whoami"),
    viewer("GET", "/api/v1/stats"),
    viewer("GET", "/api/v1/traffic"),
    viewer("GET", "/api/v1/live"),
    viewer("GET", "/api/v1/cluster"),
    admin("GET", "/api/v1/cluster/backup"),
    admin("POST", "/api/v1/cluster/restore"),
    admin("POST", "/api/v1/cluster/nodes/{id}/drain"),
    admin("DELETE", "/api/v1/cluster/nodes/{id}"),
    admin("GET", "/api/v1/tokens"),
    admin("POST", "/api/v1/tokens"),
    admin("GET", "/api/v1/tokens/{id}"),
    admin("DELETE", "/api/v1/tokens/{id}"),
    admin("GET", "/api/v1/audit"),
];

/// What the table says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Rule(&'static Rule),
    /// The path is there, for other methods.
    OtherMethod,
    Nothing,
}

/// The methods that a path has, as the header Allow lists them.
pub fn methods(path: &str) -> String {
    let of_path = RULES.iter().filter(|rule| matches(rule.path, path));
    of_path.map(|rule| rule.method).collect::<Vec<_>>().join(", ")
}

/// `path` as the router sees it: percent-decoded but for `/`, `%` and `+`.
pub fn find(method: &str, path: &str) -> Found {
    let mut found = Found::Nothing;
    for rule in RULES.iter().filter(|rule| matches(rule.path, path)) {
        if rule.method == method {
            return Found::Rule(rule);
        }
        found = Found::OtherMethod;
    }
    found
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let fits = pattern.split('/').all(|wanted| {
        segments.next().is_some_and(|segment| match wanted.starts_with('{') {
            true => !segment.is_empty(),
            false => segment == wanted,
        })
    });
    fits && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_finds_its_rule() {
        let role = |method, path| match find(method, path) {
            Found::Rule(rule) => rule.role,
            other => panic!("{method} {path}: {other:?}"),
        };
        assert_eq!(role("GET", "/livez"), None);
        assert_eq!(role("GET", "/api/v1/endpoints/ep-1"), Some(Role::Viewer));
        assert_eq!(role("POST", "/api/v1/endpoints/ep-1/versions/7/activate"), Some(Role::Editor));
        assert_eq!(role("DELETE", "/api/v1/tokens/x"), Some(Role::Admin));
        assert_eq!(find("PATCH", "/api/v1/endpoints"), Found::OtherMethod);
        assert_eq!(methods("/api/v1/endpoints/ep-1"), "GET, PUT, DELETE");
        for nothing in ["/", "", "/api/v1", "/api/v1/endpoints/", "/api/v1/endpoints//diff", "/api/v1/tokens/a/b"] {
            assert_eq!(find("GET", nothing), Found::Nothing, "{nothing}");
        }
    }

    #[test]
    fn no_route_stands_twice_and_only_health_is_open() {
        for (place, rule) in RULES.iter().enumerate() {
            assert!(
                !RULES[..place].iter().any(|other| (other.method, other.path) == (rule.method, rule.path)),
                "{rule:?}"
            );
            assert_eq!(rule.role.is_none(), matches!(rule.path, "/livez" | "/readyz"), "{rule:?}");
            assert!(rule.method == "GET" || rule.role >= Some(Role::Viewer), "{rule:?}");
        }
    }

    /// The router is made from the operations: each has its rule, and no rule is about nothing.
    #[test]
    fn every_route_has_its_rule() {
        let operations = super::super::operations();
        for operation in &operations {
            let Found::Rule(rule) = find(operation.method.as_str(), operation.path) else {
                panic!("{} {} has no rule", operation.method, operation.path);
            };
            assert_eq!((rule.path, rule.role.is_none()), (operation.path, operation.open), "{rule:?}");
        }
        for rule in RULES {
            let is_it = |operation: &&super::super::operation::Operation| {
                (operation.method.as_str(), operation.path) == (rule.method, rule.path)
            };
            assert!(operations.iter().any(|operation| is_it(&operation)), "{rule:?} is about no route");
        }
    }

    /// A more general path of an earlier rule would take the requests of a later one.
    #[test]
    fn each_rule_is_the_first_that_its_own_path_matches() {
        for rule in RULES {
            assert_eq!(find(rule.method, rule.path), Found::Rule(rule));
        }
    }
}
