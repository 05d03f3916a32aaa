//! What is known about who a token belongs to, and its bounds. Pure; used by the modes with claims.

use serde_json::{Map, Value};

use crate::model::limits;

/// Whom a token stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub user: Option<String>,
    pub claims: Option<Value>,
    /// Its `exp`.
    pub until_unix_millis: Option<u64>,
}

/// Claims that a connection cannot carry. Quotes none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("its claims are larger than {} bytes", limits::CLAIMS_BYTES_MAX)]
    ClaimsTooLarge,
    #[error("the user it names is longer than {} bytes", limits::USER_BYTES_MAX)]
    UserTooLong,
    #[error("its \"exp\" is no time")]
    Exp,
}

/// Reads claims; the first of `user_fields` that is a text names the user.
pub fn identity(claims: Map<String, Value>, user_fields: &[&str]) -> Result<Identity, Unusable> {
    let named = user_fields.iter().find_map(|field| claims.get(*field).and_then(Value::as_str));
    let user = named.filter(|name| !name.is_empty()).map(checked_user).transpose()?;
    let until_unix_millis = until(&claims)?;
    Ok(Identity { user, claims: Some(checked_size(claims)?), until_unix_millis })
}

pub fn checked_user(name: &str) -> Result<String, Unusable> {
    match name.len() <= limits::USER_BYTES_MAX {
        true => Ok(name.to_owned()),
        false => Err(Unusable::UserTooLong),
    }
}

pub fn checked_size(claims: Map<String, Value>) -> Result<Value, Unusable> {
    let claims = Value::Object(claims);
    match claims.to_string().len() <= limits::CLAIMS_BYTES_MAX {
        true => Ok(claims),
        false => Err(Unusable::ClaimsTooLarge),
    }
}

/// `exp` (RFC 7519 §4.1.4: seconds, possibly with a fraction) in milliseconds.
pub fn until(claims: &Map<String, Value>) -> Result<Option<u64>, Unusable> {
    match claims.get("exp") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => numeric_date(value).map(Some).ok_or(Unusable::Exp),
    }
}

/// A NumericDate in milliseconds.
pub fn numeric_date(value: &Value) -> Option<u64> {
    // Beyond the year 9999 is a unit that was mistaken.
    let seconds = value.as_f64().filter(|seconds| (0.0..253_402_300_800.0).contains(seconds))?;
    Some((seconds * 1000.0) as u64)
}

/// Whether claims have all the scopes: in `scope` (RFC 8693 §4.2: a text of words) or `scp` (a list, or a text).
pub fn has_scopes(claims: &Map<String, Value>, required: &[String]) -> bool {
    let has = |scope: &String| {
        [claims.get("scope"), claims.get("scp")].into_iter().flatten().any(|granted| match granted {
            Value::String(words) => words.split(' ').any(|word| word == scope),
            Value::Array(list) => list.iter().any(|item| item == scope.as_str()),
            _ => false,
        })
    };
    required.iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn users_claims_and_ends() {
        let known = identity(object(json!({"username": "ann", "sub": "", "exp": 12.5, "a": 1})), &["sub", "username"]);
        // The first field that is there decides, also when it names nobody.
        assert_eq!(known.as_ref().unwrap().user, None);
        assert_eq!(known.unwrap().until_unix_millis, Some(12_500));
        let known = identity(object(json!({"username": "ann"})), &["sub", "username"]).unwrap();
        assert_eq!((known.user.as_deref(), known.until_unix_millis), (Some("ann"), None));
        assert_eq!(identity(object(json!({"sub": "x".repeat(2000)})), &["sub"]), Err(Unusable::UserTooLong));
        assert_eq!(identity(object(json!({"a": "x".repeat(20_000)})), &["sub"]), Err(Unusable::ClaimsTooLarge));
        for wrong in [json!("tomorrow"), json!(-1), json!(1e18), json!([1])] {
            assert_eq!(identity(object(json!({"exp": wrong})), &[]), Err(Unusable::Exp));
        }
    }

    #[test]
    fn scopes_in_each_shape() {
        let required = ["read".to_owned(), "write".to_owned()];
        for (claims, has) in [
            (json!({"scope": "write read"}), true),
            (json!({"scp": ["read", "write", "x"]}), true),
            (json!({"scp": "read write"}), true),
            (json!({"scope": "read", "scp": ["write"]}), true),
            (json!({"scope": "read"}), false),
            (json!({"scope": "readwrite"}), false),
            (json!({"scope": ["read", 1]}), false),
            (json!({}), false),
        ] {
            assert_eq!(has_scopes(&object(claims.clone()), &required), has, "{claims}");
        }
        assert!(has_scopes(&Map::new(), &[]));
    }
}
