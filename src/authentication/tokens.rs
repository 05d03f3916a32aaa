//! What servers have said about tokens, remembered for a while under the tokens' digests; a token that several clients
//! show at once is asked about once. Used by the modes that ask.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::claims::Identity;
use super::generations::{Digest, Generations};
use super::Denied;
use crate::model::authentication::sha256;

/// Tokens remembered; twice so many at most.
const KNOWN_MAX: usize = 16_384;

/// How long a no is remembered: a client that insists must not load the server.
const NO_FOR: Duration = Duration::from_secs(5);

/// An answer that is no older needs not be asked for again when a connection is checked again: many connections may
/// show one token.
pub const FRESH: Duration = Duration::from_secs(2);

/// A server's answer.
#[derive(Clone)]
pub struct Known {
    /// None: the token is not accepted.
    pub identity: Option<Arc<Identity>>,
    pub at: Instant,
}

impl Known {
    fn is_good(&self, max_age: Duration, now_unix_millis: u64) -> bool {
        match &self.identity {
            None => self.at.elapsed() < NO_FOR,
            Some(identity) => {
                self.at.elapsed() < max_age && identity.until_unix_millis.is_none_or(|until| now_unix_millis < until)
            }
        }
    }
}

pub struct TokenAnswers {
    known: Mutex<Generations<Known>>,
    /// Questions under way.
    flights: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl Default for TokenAnswers {
    fn default() -> TokenAnswers {
        TokenAnswers { known: Mutex::new(Generations::new(KNOWN_MAX)), flights: Mutex::default() }
    }
}

/// One asker's share in a question; the last one takes it off the list.
struct Flight<'a> {
    answers: &'a TokenAnswers,
    key: Digest,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.answers.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // The list's own and this one's.
        if Arc::strong_count(&self.turn) <= 2 {
            flights.remove(&self.key);
        }
    }
}

/// What a token is remembered under: the same token may be good for one server and not for another.
pub fn key(server: &str, token: &str) -> Digest {
    let mut text = Vec::with_capacity(server.len() + 1 + token.len());
    text.extend_from_slice(server.as_bytes());
    text.push(0);
    text.extend_from_slice(token.as_bytes());
    sha256(&text)
}

impl TokenAnswers {
    /// The answer about a token: one that is at most `max_age` old, or what `ask` says.
    pub async fn get_or_ask<F: Future<Output = Result<Option<Identity>, Denied>>>(
        &self,
        key: Digest,
        max_age: Duration,
        ask: impl FnOnce() -> F,
    ) -> Result<Known, Denied> {
        if let Some(known) = self.known(&key, max_age) {
            return Ok(known);
        }
        let flight = self.join(key);
        let _turn = flight.turn.lock().await;
        if let Some(known) = self.known(&key, max_age) {
            return Ok(known);
        }
        let at = Instant::now();
        let known = Known { identity: ask().await?.map(Arc::new), at };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, known.clone());
        Ok(known)
    }

    fn known(&self, key: &Digest, max_age: Duration) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key)?;
        known.is_good(max_age, super::unix_millis()).then_some(known)
    }

    fn join(&self, key: Digest) -> Flight<'_> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = flights.entry(key).or_default().clone();
        Flight { answers: self, key, turn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn identity(until_unix_millis: Option<u64>) -> Identity {
        Identity { user: Some("u".into()), claims: None, until_unix_millis }
    }

    #[tokio::test]
    async fn one_question_for_all_who_ask_at_once() {
        let answers = TokenAnswers::default();
        let asked = Cell::new(0);
        let ask = || async {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            Ok(Some(identity(None)))
        };
        let minute = Duration::from_secs(60);
        let key = key("s", "t");
        let all = futures::future::join_all((0..50).map(|_| answers.get_or_ask(key, minute, ask))).await;
        assert!(all.into_iter().all(|known| known.is_ok_and(|known| known.identity.is_some())));
        assert_eq!(asked.get(), 1);
        assert!(answers.flights.lock().unwrap().is_empty());
        answers.get_or_ask(key, Duration::ZERO, ask).await.unwrap();
        assert_eq!(asked.get(), 2, "nothing is fresh enough");
    }

    #[tokio::test]
    async fn a_no_is_remembered_and_silence_is_not() {
        let answers = TokenAnswers::default();
        let minute = Duration::from_secs(60);
        let silent = answers.get_or_ask(key("s", "a"), minute, || async { Err(Denied::Wrong) }).await;
        assert_eq!(silent.err(), Some(Denied::Wrong));
        assert!(answers.get_or_ask(key("s", "a"), minute, || async { Ok(None) }).await.unwrap().identity.is_none());
        let again = answers.get_or_ask(key("s", "a"), minute, || async { panic!("the no is known") });
        assert!(again.await.unwrap().identity.is_none());
        let other = answers.get_or_ask(key("other", "a"), minute, || async { Ok(Some(identity(Some(1)))) });
        assert!(other.await.unwrap().identity.is_some(), "another server's word");
        let expired = answers.get_or_ask(key("other", "a"), minute, || async { Ok(None) });
        assert!(expired.await.unwrap().identity.is_none(), "not beyond the token's own end");
    }
}
