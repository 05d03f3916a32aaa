//! Hands events to backends: one lane per connection and backend keeps their order, as far as the endpoint asks for it; an
//! event is delivered when all its required backends have taken it. A lane is as long as the connection's in-flight window; what is best effort and
//! finds its lane full is dropped and counted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::runtime::RouteRuntime;
use crate::backends::{Begin, Delivered, Delivery, Event, Undelivered};
use crate::model::ordering::{Turn, UnderWay};

/// How long a lane waits before it offers an event again to a backend that had no room.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// The pause grows up to this while the backend stays full.
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(200);

/// Events that may wait in a lane for a best-effort backend.
const BEST_EFFORT_WAITING_MAX: usize = 64;

/// A required backend that did not take an event.
#[derive(Clone, Debug)]
pub struct FailedDelivery {
    pub backend: String,
    pub undelivered: Undelivered,
}

/// Told once, when every required backend has answered.
pub type OnSettled = Box<dyn FnOnce(&Rc<Event>, Option<FailedDelivery>)>;

/// Given what backends have answered for the sender, each time before its backend counts as having answered.
pub type OnReply = Rc<dyn Fn(Bytes)>;

/// One event's fan-out over the backends of its route.
struct FanOut {
    route: Rc<RouteRuntime>,
    event: Rc<Event>,
    turn: Turn,
    required_left: Cell<u32>,
    failed: RefCell<Option<FailedDelivery>>,
    settled: RefCell<Option<OnSettled>>,
    replies: Option<OnReply>,
}

impl FanOut {
    fn answered(&self, backend: usize, result: Result<Delivered, Undelivered>, began: Instant) {
        let runtime = &self.route.backends[backend];
        runtime
            .observe(result.as_ref().map_or_else(|failed| failed.failure.outcome(), |_| "delivered"), began.elapsed());
        if let (Ok(Delivered { reply: Some(reply), .. }), Some(on_reply)) = (&result, &self.replies) {
            on_reply(reply.clone());
        }
        if !runtime.spec.required {
            return;
        }
        if let Err(undelivered) = result {
            let mut failed = self.failed.borrow_mut();
            failed.get_or_insert(FailedDelivery { backend: runtime.spec.label.to_string(), undelivered });
        }
        self.required_left.set(self.required_left.get() - 1);
        if self.required_left.get() == 0 {
            self.settle();
        }
    }

    /// Keeps an event that a required backend has not taken where the route says.
    async fn last_resort(&self, backend: usize, undelivered: &Undelivered) {
        let spec = &self.route.backends[backend].spec;
        if let Some(letters) = self.route.dead_letters.as_ref().filter(|_| spec.required) {
            letters.keep(&self.event, spec, undelivered).await;
        }
    }

    fn settle(&self) {
        let failed = self.failed.borrow_mut().take();
        let counter = if failed.is_some() { &self.route.failed } else { &self.route.delivered };
        counter.inc();
        if let Some(settled) = self.settled.borrow_mut().take() {
            settled(&self.event, failed);
        }
    }
}

/// The events of one connection that wait for one backend.
#[derive(Default)]
struct Lane {
    waiting: RefCell<VecDeque<(Rc<FanOut>, usize)>>,
    under_way: RefCell<UnderWay>,
    /// A timer will offer the first event again.
    paused: Cell<bool>,
    /// How long the last pause was; none since the backend last had room.
    pause: Cell<Duration>,
}

/// A connection's lanes.
#[derive(Default)]
pub struct Lanes {
    /// By the backend's label, which is the same over versions: a new version does not overtake the old one's events.
    lanes: RefCell<Vec<(Arc<str>, Rc<Lane>)>>,
}

impl Lanes {
    /// Sends an event to every backend of its route but the echoes. `settled` is called when the required ones have
    /// answered, at once when there are none.
    pub fn dispatch(&self, route: &Rc<RouteRuntime>, event: Rc<Event>, turn: Turn, settled: OnSettled) {
        self.dispatch_with_replies(route, event, turn, None, settled);
    }

    /// As `dispatch`, and what backends answer for the sender goes to `replies`.
    pub fn dispatch_with_replies(
        &self,
        route: &Rc<RouteRuntime>,
        event: Rc<Event>,
        turn: Turn,
        replies: Option<OnReply>,
        settled: OnSettled,
    ) {
        let required =
            route.backends.iter().filter(|backend| backend.backend.is_some() && backend.spec.required).count();
        let fan_out = Rc::new(FanOut {
            route: route.clone(),
            event,
            turn,
            required_left: Cell::new(required as u32),
            failed: RefCell::default(),
            settled: RefCell::new(Some(settled)),
            replies,
        });
        if required == 0 {
            fan_out.settle();
        }
        for (index, backend) in route.backends.iter().enumerate() {
            if backend.backend.is_some() {
                let lane = self.lane(&backend.spec.label);
                if !backend.spec.required && lane.waiting.borrow().len() >= BEST_EFFORT_WAITING_MAX {
                    backend.observe("dropped", Duration::ZERO);
                    continue;
                }
                lane.waiting.borrow_mut().push_back((fan_out.clone(), index));
                pump(&lane);
            }
        }
    }

    fn lane(&self, label: &Arc<str>) -> Rc<Lane> {
        let mut lanes = self.lanes.borrow_mut();
        if let Some((_, lane)) = lanes.iter().find(|(known, _)| known == label) {
            return lane.clone();
        }
        // Lanes of backends that are no more, and that are empty, go.
        lanes.retain(|(_, lane)| Rc::strong_count(lane) > 1 || !lane.waiting.borrow().is_empty());
        let lane = Rc::new(Lane::default());
        lanes.push((label.clone(), lane.clone()));
        lane
    }
}

impl Lane {
    /// Backends that keep the order themselves take every event at once; of others, those whose turn it is.
    fn first_that_may_begin(&self) -> Option<usize> {
        let waiting = self.waiting.borrow();
        let waits_for_answers = |(fan_out, backend): &(Rc<FanOut>, usize)| {
            fan_out.route.backends[*backend].backend.as_ref().is_some_and(|backend| backend.one_at_a_time())
        };
        if !waits_for_answers(waiting.front()?) {
            return Some(0);
        }
        let turns = waiting.iter().map(|one| if waits_for_answers(one) { one.0.turn } else { Turn::Alone });
        self.under_way.borrow().next(turns)
    }
}

/// One begun delivery.
struct Begun {
    fan_out: Rc<FanOut>,
    backend: usize,
    began: Instant,
    delivery: Delivery,
}

/// Begins on as many waiting events as order and room allow.
fn pump(lane: &Rc<Lane>) {
    while let Some(begun) = next(lane) {
        actix_rt::spawn(see_through(lane.clone(), begun));
    }
}

/// Takes the first waiting event if it may begin now.
fn next(lane: &Rc<Lane>) -> Option<Begun> {
    if lane.paused.get() {
        return None;
    }
    let at = lane.first_that_may_begin()?;
    let (fan_out, backend) = lane.waiting.borrow().get(at).cloned()?;
    let instance = fan_out.route.backends[backend].backend.clone()?;
    match instance.begin(&fan_out.event) {
        Begin::Started(delivery) => {
            lane.waiting.borrow_mut().remove(at);
            lane.pause.set(Duration::ZERO);
            lane.under_way.borrow_mut().begin(fan_out.turn);
            Some(Begun { fan_out, backend, began: Instant::now(), delivery })
        }
        Begin::Busy => {
            lane.paused.set(true);
            let pause = (lane.pause.get() * 2).clamp(BUSY_PAUSE, BUSY_PAUSE_MAX);
            lane.pause.set(pause);
            let lane = lane.clone();
            actix_rt::spawn(async move {
                tokio::time::sleep(pause).await;
                lane.paused.set(false);
                pump(&lane);
            });
            None
        }
    }
}

/// Waits for an answer, then goes on with the lane's next event in the same task. Where several may begin, the others get
/// tasks of their own.
async fn see_through(lane: Rc<Lane>, mut begun: Begun) {
    loop {
        let result = begun.delivery.await;
        if let Err(undelivered) = &result {
            begun.fan_out.last_resort(begun.backend, undelivered).await;
        }
        lane.under_way.borrow_mut().end(begun.fan_out.turn);
        begun.fan_out.answered(begun.backend, result, begun.began);
        match next(&lane) {
            Some(following) => begun = following,
            None => return,
        }
        pump(&lane);
    }
}
