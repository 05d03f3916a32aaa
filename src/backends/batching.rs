//! An HTTP service that takes many events in one request. What waits on a worker, of all its connections, goes together:
//! a request leaves when none is under way, or when it would be full. So nothing waits while a service is idle, unless the
//! policy asks for it, and the busier it is, the fuller are its requests. A connection's lane gives one event that has to be in
//! order at a time, so order needs no rule here. Called by pool; imports http, batch and retry.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use tokio::sync::oneshot;

use super::batch::{results, Envelope};
use super::http::HttpBackend;
use super::retry::{self, Missed};
use super::{Backend, Begin, Delivered, Event, Failure, RouteFacts, Stopped, Undelivered};
use crate::model::delivery_policy::BatchPolicy;

/// About what the attributes of one event take.
const ATTRIBUTES_BYTES: usize = 500;

/// One event that is to be in a batch.
struct Waiting {
    event: Rc<Event>,
    since: Instant,
    /// Of its latest attempt.
    failure: Option<Failure>,
    answer: oneshot::Sender<Result<Delivered, Undelivered>>,
}

impl Waiting {
    /// Its connection may be gone: then nobody listens.
    fn settle(self, result: Result<Delivered, Undelivered>) {
        let _gone = self.answer.send(result);
    }

    fn fail(self, failure: Failure, attempts: u32, stopped: Option<Stopped>) {
        self.settle(Err(Undelivered { failure, attempts, stopped }));
    }
}

pub struct BatchingBackend {
    http: HttpBackend,
    policy: BatchPolicy,
    envelope: Envelope,
    /// Bounded by the lanes that give events: each at most as many as it may have under way.
    waiting: RefCell<VecDeque<Waiting>>,
    waiting_bytes: Cell<usize>,
    under_way: Cell<usize>,
    /// Somebody will look again by himself.
    will_look: Cell<bool>,
}

impl Backend for BatchingBackend {
    fn one_at_a_time(&self) -> bool {
        true
    }

    fn begin(self: Rc<Self>, event: &Rc<Event>) -> Begin {
        let (answer, answered) = oneshot::channel();
        self.waiting_bytes.set(self.waiting_bytes.get() + size(event));
        let waiting = Waiting { event: event.clone(), since: Instant::now(), failure: None, answer };
        self.waiting.borrow_mut().push_back(waiting);
        if self.is_full() {
            self.send_what_may_leave();
        } else if self.under_way.get() == 0 {
            self.look_later(self.policy.max_delay);
        }
        Begin::Started(Box::pin(async move {
            let gone = |_| Err(Failure::Unreachable("the node is going down".to_owned()).into());
            answered.await.unwrap_or_else(gone)
        }))
    }
}

fn size(event: &Event) -> usize {
    event.body.len() + ATTRIBUTES_BYTES
}

impl BatchingBackend {
    pub fn new(http: HttpBackend, policy: BatchPolicy, route: &RouteFacts) -> BatchingBackend {
        BatchingBackend {
            http,
            policy,
            envelope: Envelope::new(route),
            waiting: RefCell::default(),
            waiting_bytes: Cell::new(0),
            under_way: Cell::new(0),
            will_look: Cell::new(false),
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.borrow().len() >= self.policy.max_events || self.waiting_bytes.get() >= self.policy.max_bytes
    }

    /// Whether the first that waits has waited for long enough; if not, how long it still has to.
    fn still_to_wait(&self) -> Option<Duration> {
        let waited = self.waiting.borrow().front()?.since.elapsed();
        Some(self.policy.max_delay.saturating_sub(waited))
    }

    /// Without a delay: after what else this worker has to do now, so that events which came in together leave together.
    fn look_later(self: &Rc<Self>, after: Duration) {
        if self.will_look.replace(true) {
            return;
        }
        let this = self.clone();
        actix_rt::spawn(async move {
            match after.is_zero() {
                true => tokio::task::yield_now().await,
                false => tokio::time::sleep(after).await,
            }
            this.will_look.set(false);
            this.send_what_may_leave();
        });
    }

    fn send_what_may_leave(self: &Rc<Self>) {
        while self.is_full() || self.under_way.get() == 0 {
            match self.still_to_wait() {
                None => return,
                Some(wait) if !wait.is_zero() && !self.is_full() => return self.look_later(wait),
                Some(_) => {}
            }
            let batch = self.take();
            self.under_way.set(self.under_way.get() + 1);
            let this = self.clone();
            actix_rt::spawn(async move {
                this.http.destination().first_attempt();
                this.see_through(batch, 1).await;
                this.under_way.set(this.under_way.get() - 1);
                this.send_what_may_leave();
            });
        }
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(next) = waiting.front() {
            bytes += size(&next.event);
            let one_more = batch.is_empty() || (batch.len() < self.policy.max_events && bytes <= self.policy.max_bytes);
            if !one_more {
                break;
            }
            batch.extend(waiting.pop_front());
        }
        let left: usize = waiting.iter().map(|waiting| size(&waiting.event)).sum();
        self.waiting_bytes.set(left);
        batch
    }

    /// Sends the events, and again those that were not taken, until each is settled. What does not fit into one request
    /// after all follows in the next.
    fn see_through(self: &Rc<Self>, mut batch: Vec<Waiting>, number: u32) -> LocalBoxFuture<'static, ()> {
        let this = self.clone();
        Box::pin(async move {
            while !batch.is_empty() {
                let events = batch.iter().map(|waiting| &*waiting.event);
                let (body, count) = this.envelope.batch(events, number, this.policy.max_bytes);
                let behind = batch.split_off(count);
                let id = format!("{}-{count}", batch[0].event.id);
                let answered = this.http.send_batch(&id, body).await;
                this.after(std::mem::replace(&mut batch, behind), number, answered).await;
            }
        })
    }

    /// Settles what can be, and sees through the rest.
    async fn after(self: &Rc<Self>, batch: Vec<Waiting>, number: u32, answered: Result<Delivered, Missed>) {
        let policy = &self.http.spec().retry;
        let missed: Missed = match answered {
            Ok(delivered) => match results(delivered.reply.as_deref().unwrap_or_default()) {
                Ok(listed) => {
                    let listed = listed.into_iter().map(|result| (result.id, result.status)).collect();
                    return self.after_results(batch, number, delivered.status, &listed).await;
                }
                Err(fault) => Failure::Reply(fault).into(),
            },
            Err(missed) => missed,
        };
        if !missed.failure.was_sent() {
            for mut one in batch {
                match one.failure.take() {
                    Some(before) => one.fail(before, number - 1, Some(Stopped::NotSent(missed.failure.outcome()))),
                    None => one.fail(missed.failure.clone(), number - 1, None),
                }
            }
            return;
        }
        let mut batch = batch;
        batch.iter_mut().for_each(|one| one.failure = Some(missed.failure.clone()));
        // Of what is sent: its shape, its length, its type, its content. Other statuses are about the service.
        let refused = matches!(missed.failure, Failure::Status { status: 400 | 413 | 415 | 422 });
        if refused && batch.len() > 1 && policy.attempts > 1 && !self.http.destination().is_leaving() {
            // One of them is to blame, and nobody has said which.
            let second = batch.split_off(batch.len() / 2);
            self.see_through(batch, number + 1).await;
            return self.see_through(second, number + 1).await;
        }
        self.again_or_fail(batch, number, missed).await;
    }

    /// The service has said of some what became of them. Who is not listed was taken.
    async fn after_results(
        self: &Rc<Self>,
        batch: Vec<Waiting>,
        number: u32,
        status: Option<u16>,
        listed: &HashMap<String, u16>,
    ) {
        let after = self.http.spec().retry.after;
        let mut again = Vec::new();
        for mut one in batch {
            match listed.get(one.event.id.as_str()) {
                None | Some(200..=299) => one.settle(Ok(Delivered { status, reply: None })),
                Some(status) => {
                    let failure = Failure::Status { status: *status };
                    if retry::is_worth_it(after, &failure) {
                        one.failure = Some(failure);
                        again.push(one);
                    } else {
                        one.fail(failure, number, None);
                    }
                }
            }
        }
        if let Some(failure) = again.first().and_then(|one| one.failure.clone()) {
            self.again_or_fail(again, number, failure.into()).await;
        }
    }

    /// Each of them has the failure of this attempt.
    async fn again_or_fail(self: &Rc<Self>, batch: Vec<Waiting>, number: u32, missed: Missed) {
        let (policy, destination) = (&self.http.spec().retry, self.http.destination());
        match retry::goes_on(policy, destination, &missed.failure, number) {
            Ok(()) => {
                destination.pause(retry::pause(policy, &missed, number)).await;
                self.see_through(batch, number + 1).await;
            }
            Err(stopped) => {
                for mut one in batch {
                    let failure = one.failure.take().unwrap_or_else(|| missed.failure.clone());
                    one.fail(failure, number, stopped);
                }
            }
        }
    }
}
