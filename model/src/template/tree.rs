//! A JSON tree as the engine sees it: nothing is copied until a template looks at it. Looking costs *work*, a budget
//! of one evaluation beside the engine's fuel, since the engine does not know how much an object hands out.

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr, Value};
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json;

use crate::limits;

/// Bytes that one unit of work pays for, as one fuel does in the engine.
pub(super) const BYTES_PER_UNIT: usize = 64;

thread_local! {
    /// What is left for the evaluation that runs on this thread; evaluations do not nest.
    static WORK_LEFT: Cell<usize> = const { Cell::new(0) };
}

/// Fills the budget, at the start of an evaluation.
pub(super) fn refill() {
    WORK_LEFT.set(limits::TEMPLATE_FUEL);
}

/// Whether there is so much left; it is gone then.
fn spend(units: usize) -> bool {
    let left = WORK_LEFT.get();
    WORK_LEFT.set(left.saturating_sub(units));
    left > units
}

/// One node of a tree, with the tree that it belongs to.
pub(super) struct Tree {
    root: Arc<Json>,
    node: NonNull<Json>,
}

// SAFETY: `node` points into `root`, which nobody can change (it is shared) and which lives as long as this does; what it
// points to is as thread-safe as `Json` is.
unsafe impl Send for Tree {}
// SAFETY: as above; all access is reading.
unsafe impl Sync for Tree {}

impl Tree {
    /// A whole tree as a value.
    pub(super) fn value(root: &Arc<Json>) -> Value {
        wrap(root, root)
    }

    /// The node.
    pub(super) fn node(&self) -> &Json {
        // SAFETY: see above.
        unsafe { self.node.as_ref() }
    }

    fn child(&self, node: &Json) -> Value {
        wrap(&self.root, node)
    }

    fn len(&self) -> usize {
        match self.node() {
            Json::Array(items) => items.len(),
            Json::Object(members) => members.len(),
            _ => 0,
        }
    }
}

fn wrap(root: &Arc<Json>, node: &Json) -> Value {
    let bytes = node.as_str().map_or(0, str::len);
    if !spend(1 + bytes / BYTES_PER_UNIT) {
        return Value::from(Error::from(ErrorKind::OutOfFuel));
    }
    match node {
        Json::Null => Value::from(()),
        Json::Bool(held) => Value::from(*held),
        Json::String(text) => Value::from(text.as_str()),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::Array(_) | Json::Object(_) => Value::from_object(Tree { root: root.clone(), node: NonNull::from(node) }),
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tree")
    }
}

impl Object for Tree {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.node() {
            Json::Array(_) => ObjectRepr::Seq,
            _ => ObjectRepr::Map,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match self.node() {
            Json::Array(items) => items.get(key.as_usize()?).map(|item| self.child(item)),
            Json::Object(members) => members.get(key.as_str()?).map(|member| self.child(member)),
            _ => None,
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.node() {
            Json::Object(members) => members.get(key).map(|member| self.child(member)),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.node() {
            Json::Array(items) => Enumerator::Seq(items.len()),
            _ => self.mapped_enumerator(|this| {
                let names = this.node().as_object().into_iter().flat_map(|members| members.keys());
                Box::new(names.map(|name| match spend(1 + name.len() / BYTES_PER_UNIT) {
                    true => Value::from(name.as_str()),
                    false => Value::from(Error::from(ErrorKind::OutOfFuel)),
                }))
            }),
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }

    /// Only in the engine's own error messages: the filters write values themselves.
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.node().is_array() { "(a list)" } else { "(an object)" })
    }
}
