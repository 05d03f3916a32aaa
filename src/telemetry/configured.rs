//! What counters may stand for: the endpoints that are configured, with their routes, backends and sources. Others' counters
//! are let go, or a node whose endpoints come and go would keep them for good. Filled by `observe`; read by the families'
//! owners, `history` and `metrics`.

use std::collections::HashSet;

use crate::model::endpoint::CompiledEndpoint;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    endpoints: HashSet<String>,
    /// Path, `type/name`.
    routes: HashSet<(String, String)>,
    /// Path, name.
    names: HashSet<(String, String)>,
    /// Path, label.
    sources: HashSet<(String, String)>,
}

fn has(set: &HashSet<(String, String)>, path: &str, what: &str) -> bool {
    set.contains(&(path.to_owned(), what.to_owned()))
}

impl Configured {
    pub fn add(&mut self, endpoint: &CompiledEndpoint) {
        let path = endpoint.path.to_string();
        for route in endpoint.routes.all() {
            self.routes.insert((path.clone(), format!("{}/{}", route.kind.as_str(), route.name)));
            self.names.insert((path.clone(), route.name.to_string()));
        }
        self.sources.extend(endpoint.sources.iter().map(|source| (path.clone(), source.label())));
        self.endpoints.insert(path);
    }

    /// A path under which connections still count that were there before it was changed.
    pub fn add_path(&mut self, path: &str) {
        self.endpoints.insert(path.to_owned());
    }

    /// What either has.
    pub fn or(mut self, other: &Configured) -> Configured {
        self.endpoints.extend(other.endpoints.iter().cloned());
        self.routes.extend(other.routes.iter().cloned());
        self.names.extend(other.names.iter().cloned());
        self.sources.extend(other.sources.iter().cloned());
        self
    }

    pub fn endpoint(&self, path: &str) -> bool {
        self.endpoints.contains(path)
    }

    /// `type/name`; empty: no route.
    pub fn route(&self, path: &str, type_and_name: &str) -> bool {
        match type_and_name {
            "" => self.endpoint(path),
            route => has(&self.routes, path, route),
        }
    }

    pub fn route_of_any_type(&self, path: &str, name: &str) -> bool {
        has(&self.names, path, name)
    }

    /// `type/route/index`, or `type/route/deadLetter`.
    pub fn backend(&self, path: &str, label: &str) -> bool {
        label.rsplit_once('/').is_some_and(|(route, _)| has(&self.routes, path, route))
    }

    pub fn source(&self, path: &str, label: &str) -> bool {
        has(&self.sources, path, label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compiled(document: serde_json::Value) -> CompiledEndpoint {
        wsgateway_config::compile::compile("e1", 1, &serde_json::from_value(document).unwrap()).unwrap()
    }

    #[test]
    fn routes_are_told_apart_by_type_and_name_and_by_their_endpoint() {
        let mut configured = Configured::default();
        configured.add(&compiled(json!({"path": "/a", "routes": [
            {"type": "custom", "name": "x y", "key": "k", "backends": [{"type": "echo"}]},
            {"type": "default", "name": "rest", "backends": [{"type": "echo"}]}], "routeSelector": "$.type"})));
        assert!(configured.endpoint("/a") && !configured.endpoint("/b"));
        assert!(configured.route("/a", "default/rest") && configured.route("/a", ""));
        assert!(!configured.route("/a", "custom/rest") && !configured.route("/b", ""));
        assert!(configured.route_of_any_type("/a", "rest") && !configured.route_of_any_type("/a", "gone"));
        assert!(configured.backend("/a", "default/rest/0") && configured.backend("/a", "default/rest/deadLetter"));
        assert!(!configured.backend("/a", "default/gone/0") && !configured.backend("/b", "default/rest/0"));
        let empty = Configured::default();
        assert!(empty.clone().or(&configured).route("/a", "default/rest") && !empty.endpoint("/a"));
    }
}
