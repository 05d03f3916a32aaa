//! The endpoints as this node serves them now: a snapshot that readers load without a lock and the store replaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::live_endpoint::LiveEndpoint;

/// One consistent set of endpoints.
#[derive(Default)]
pub struct Snapshot {
    router: matchit::Router<Arc<LiveEndpoint>>,
    by_id: BTreeMap<String, Arc<LiveEndpoint>>,
}

/// Live configuration of a node.
#[derive(Default)]
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
}

/// Path parameters, percent-decoded.
pub type Params = Vec<(String, String)>;

fn decoded(params: &matchit::Params<'_, '_>) -> Params {
    let decode = |value: &str| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
    params.iter().map(|(name, value)| (name.to_owned(), decode(value))).collect()
}

/// The parameters of a request path under one template; None: it is not that template's.
pub fn params_of(template: &str, path: &str) -> Option<Params> {
    let mut router = matchit::Router::new();
    router.insert(template, ()).ok()?;
    router.at(path).ok().map(|found| decoded(&found.params))
}

impl Registry {
    /// The endpoint that serves a request path.
    pub fn find(&self, path: &str) -> Option<(Arc<LiveEndpoint>, Params)> {
        let snapshot = self.snapshot.load();
        let found = snapshot.router.at(path).ok()?;
        Some((found.value.clone(), decoded(&found.params)))
    }

    pub fn by_id(&self, id: &str) -> Option<Arc<LiveEndpoint>> {
        self.snapshot.load().by_id.get(id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<LiveEndpoint>> {
        self.snapshot.load().by_id.values().cloned().collect()
    }

    /// Whether a path can be routed beside those of all other endpoints than `id`; else why not.
    pub fn check_path(&self, id: &str, path: &str) -> Result<(), String> {
        let mut router = matchit::Router::new();
        for other in self.snapshot.load().by_id.values().filter(|other| other.id() != id) {
            // A path that cannot be routed already is not in anyone's way.
            let _conflict = router.insert(other.current().path.to_string(), ());
        }
        router.insert(path, ()).map_err(|err| err.to_string())
    }

    /// Replaces the set, those that were there first first. An endpoint whose path cannot be routed beside the others is left out and returned with why.
    pub fn replace(&self, endpoints: Vec<Arc<LiveEndpoint>>) -> Vec<(String, String)> {
        let mut snapshot = Snapshot::default();
        let mut conflicts = Vec::new();
        for endpoint in endpoints {
            let path = endpoint.current().path.to_string();
            if let Err(err) = snapshot.router.insert(path, endpoint.clone()) {
                conflicts.push((endpoint.id().to_owned(), err.to_string()));
            }
            snapshot.by_id.insert(endpoint.id().to_owned(), endpoint);
        }
        self.snapshot.store(Arc::new(snapshot));
        conflicts
    }
}
