//! Pushes whose sender wants to know more than that they are queued: written, confirmed by the client, once only, or not at
//! all after a while. Part of the hub; a push without such wishes does not come here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::confirmations::wrapped;
use super::hub::Hub;
use super::outlet::Outlet;
use super::remembered::{Entered, Remembered};
use super::watch::{Fate, Watch};
use crate::model::delivery::PushOutcome;
use crate::model::receipt::{Confirm, PushOptions, Receipt};

/// What a node keeps of such pushes.
#[derive(Default)]
pub struct Receipts {
    pub(super) remembered: Remembered,
    /// Messages that were not sent within their time to live.
    pub expired: Arc<AtomicU64>,
    /// Pushes that were answered from an earlier one.
    pub repeated: AtomicU64,
}

/// What a push that was sent may take beyond its own time to say so.
const TELLING: Duration = Duration::from_secs(1);

impl Hub {
    /// Pushes to a connection of this node, and waits as it is told to.
    pub async fn push_with(self: Arc<Self>, key: u128, payload: Bytes, options: PushOptions) -> Receipt {
        let Some(idempotency_key) = &options.idempotency_key else {
            return self.push_once(key, &payload, &options).await;
        };
        // Each call waits as long as it says itself, also for what another one has sent.
        let (confirm, wait) = (options.confirm, Duration::from_millis(options.wait_millis.into()) + TELLING);
        let remembered = &self.receipts.remembered;
        let identity = remembered.identity(key, idempotency_key, &payload, &options);
        let mut told = match remembered.enter(identity, Instant::now()) {
            Entered::Repeated(told) => {
                self.receipts.repeated.fetch_add(1, Ordering::Relaxed);
                told
            }
            Entered::First(tell) => {
                let told = tell.subscribe();
                let hub = self.clone();
                // Its caller may give up: who repeats the call then hears of this one.
                tokio::spawn(async move {
                    let receipt = hub.push_once(key, &payload, &options).await;
                    if receipt.is_unsent() {
                        hub.receipts.remembered.forget(identity);
                    }
                    tell.send_replace(Some(receipt));
                });
                told
            }
        };
        let Ok(told) = tokio::time::timeout(wait, told.wait_for(Option::is_some)).await else {
            return match confirm {
                Confirm::Client => Receipt::NotConfirmed,
                Confirm::Queued | Confirm::Written => Receipt::NotWritten,
            };
        };
        let receipt = told.ok().and_then(|told| told.clone());
        // The first ended without a word: the node is going down, and its connections with it.
        receipt.unwrap_or(Receipt::Outcome(PushOutcome::Gone))
    }

    async fn push_once(&self, key: u128, payload: &[u8], options: &PushOptions) -> Receipt {
        let Some(outlet) = self.outlet(key) else { return Receipt::Outcome(PushOutcome::Gone) };
        let made = match outlet.made(payload) {
            Ok(made) => made,
            Err(outcome) => return Receipt::Outcome(outcome),
        };
        let now = Instant::now();
        let until = now + Duration::from_millis(options.wait_millis.into());
        let expires = options.ttl_millis.map(|millis| now + Duration::from_millis(millis.into()));
        let (tell, fate) = oneshot::channel();
        let watch = Watch { fate: Some(tell), expires, expired: self.receipts.expired.clone() };
        let mut client = None;
        let outcome = match options.confirm {
            Confirm::Queued | Confirm::Written => outlet.send_watched(&made, watch),
            Confirm::Client => {
                let id = rand::random();
                let Some(word) = outlet.expect_confirmation(id) else {
                    return match outlet.is_open() {
                        true => Receipt::TooManyUnconfirmed,
                        false => Receipt::Outcome(PushOutcome::Gone),
                    };
                };
                client = Some(word);
                let outcome = outlet.send_watched(&wrapped(id, &made), watch);
                if outcome != PushOutcome::Queued {
                    outlet.forget_confirmation(id);
                }
                outcome
            }
        };
        if outcome != PushOutcome::Queued || options.confirm == Confirm::Queued {
            return Receipt::Outcome(outcome);
        }
        match (written(&outlet, fate, expires, until).await, client) {
            (Receipt::Written, Some(word)) => match timeout_at(until.into(), word).await {
                Ok(Ok(())) => Receipt::Confirmed,
                // It went without a word.
                Ok(Err(_)) => Receipt::Outcome(PushOutcome::Gone),
                Err(_) => Receipt::NotConfirmed,
            },
            (receipt, _) => receipt,
        }
    }
}

/// Waits for the socket to take a message.
async fn written(
    outlet: &Outlet,
    mut fate: oneshot::Receiver<Fate>,
    expires: Option<Instant>,
    until: Instant,
) -> Receipt {
    let mut next = expires.map_or(until, |expires| expires.min(until));
    loop {
        match timeout_at(next.into(), &mut fate).await {
            Ok(Ok(Fate::Written)) => return Receipt::Written,
            Ok(Ok(Fate::Expired)) => return Receipt::Expired,
            Ok(Err(_)) => {
                return Receipt::Outcome(if outlet.is_open() { PushOutcome::Full } else { PushOutcome::Gone })
            }
            Err(_) if next < until => {
                outlet.drop_expired();
                next = until;
            }
            Err(_) => return Receipt::NotWritten,
        }
    }
}
