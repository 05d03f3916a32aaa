//! What every transport must do, run on each implementation through a small harness.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::maybe_done;
use support::*;
use wsgateway_cluster::{Channel, PeerError, PeerTransport};

/// Long enough for a busy machine; no test waits for it to pass.
const PLENTY: Duration = Duration::from_secs(10);

async fn call_answers<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    for channel in [Channel::Control, Channel::Push] {
        for text in ["hello", ""] {
            let answer = a.transport.call(&b.peer(), channel, ECHO, text.into(), PLENTY).await;
            assert_eq!(answer, Ok(Bytes::from(text)));
        }
    }
    let from = a.transport.call(&b.peer(), Channel::Control, WHO_ASKS, Bytes::new(), PLENTY).await;
    assert_eq!(from, Ok(Bytes::from("1")));
    let back = b.transport.call(&a.peer(), Channel::Control, WHO_ASKS, Bytes::new(), PLENTY).await;
    assert_eq!(back, Ok(Bytes::from("2")));
}

async fn a_node_may_call_itself<H: Harness>(net: H) {
    let a = net.start(1, None).await;
    assert_eq!(a.transport.call(&a.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
}

async fn unknown_node_is_asked_who_it_is<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    assert_eq!(a.transport.whois(&b.addr).await, Ok(2));
    let mut peer = b.peer();
    peer.node_id = None;
    assert_eq!(a.transport.call(&peer, Channel::Control, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
}

async fn concurrent_calls_get_their_own_answers<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    let calls = (0..2_000_u32).map(|i| {
        let (transport, peer) = (a.transport.clone(), b.peer());
        let kind = if i % 3 == 0 { ECHO_LATER } else { ECHO };
        tokio::spawn(async move {
            let payload = Bytes::from(i.to_string());
            let answer = transport.call(&peer, Channel::Push, kind, payload.clone(), PLENTY).await;
            assert_eq!(answer, Ok(payload));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

async fn a_slow_answer_delays_no_other<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    let (transport, peer) = (a.transport.clone(), b.peer());
    let slow = tokio::spawn(async move { transport.call(&peer, Channel::Control, NEVER, Bytes::new(), PLENTY).await });
    b.seen_at_least(1).await;
    assert_eq!(a.transport.call(&b.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
    slow.abort();
}

/// The calls are made in order (each future is polled once before the next one); so `handle` must see that order.
async fn handlers_are_called_in_order<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    let peer = b.peer();
    let mut calls: Vec<_> = (0..1_000_u32)
        .map(|i| a.transport.call(&peer, Channel::Push, RECORD, i.to_string().into(), PLENTY))
        .map(|call| Box::pin(maybe_done(call)))
        .collect();
    for call in &mut calls {
        let _ = futures::poll!(call);
    }
    for mut call in calls {
        call.as_mut().await;
        call.as_mut().take_output().unwrap().unwrap();
    }
    assert_eq!(b.recorded(), (0..1_000).map(|i| i.to_string()).collect::<Vec<_>>());
}

async fn errors_and_panics_of_the_service_come_back<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    let call = |kind| {
        let (transport, peer) = (a.transport.clone(), b.peer());
        async move { transport.call(&peer, Channel::Control, kind, "text".into(), PLENTY).await }
    };
    assert_eq!(call(FAIL).await, Err(PeerError::Remote("no: text".into())));
    assert!(matches!(call(PANIC_AT_ONCE).await, Err(PeerError::Remote(text)) if text.contains("panicked")));
    assert!(matches!(call(PANIC_LATER).await, Err(PeerError::Remote(text)) if text.contains("panicked")));
    assert!(matches!(call(50).await, Err(PeerError::Remote(text)) if text.contains("no service")));
    assert_eq!(call(ECHO).await, Ok("text".into()));
}

async fn the_deadline_is_kept<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    let began = Instant::now();
    let deadline = Duration::from_millis(150);
    let answer = a.transport.call(&b.peer(), Channel::Control, NEVER, Bytes::new(), deadline).await;
    assert!(matches!(answer, Err(PeerError::Timeout { millis: 150, .. })), "{answer:?}");
    assert!(began.elapsed() >= deadline && began.elapsed() < Duration::from_secs(5));
    assert_eq!(a.transport.call(&b.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
}

async fn a_peer_that_is_down_fails_fast<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    let (transport, peer) = (a.transport.clone(), b.peer());
    let under_way = tokio::spawn({
        let peer = peer.clone();
        async move { transport.call(&peer, Channel::Control, NEVER, Bytes::new(), PLENTY).await }
    });
    b.seen_at_least(1).await;
    net.stop(b).await;
    let broken = under_way.await.unwrap();
    assert!(matches!(broken, Err(PeerError::Unreachable { sent: true, .. })), "{broken:?}");
    let began = Instant::now();
    for _ in 0..20 {
        let failed = a.transport.call(&peer, Channel::Control, ECHO, Bytes::new(), PLENTY).await;
        assert!(matches!(failed, Err(PeerError::Unreachable { sent: false, .. })), "{failed:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

async fn a_peer_that_restarts_is_reached_again<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    assert_eq!(a.transport.call(&b.peer(), Channel::Push, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
    let peer = b.peer();
    net.stop(b).await;
    let failed = a.transport.call(&peer, Channel::Push, ECHO, Bytes::new(), PLENTY).await;
    assert!(matches!(failed, Err(PeerError::Unreachable { .. })), "{failed:?}");
    let _b = net.start(2, Some(&peer.addr)).await;
    assert_eq!(until_reached(&a, &peer, Channel::Push).await, Ok("x".into()));
}

async fn another_node_than_expected_is_refused<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    let mut peer = b.peer();
    peer.node_id = Some(3);
    let refused = a.transport.call(&peer, Channel::Control, ECHO, "x".into(), PLENTY).await;
    assert!(matches!(&refused, Err(PeerError::Refused { reason, .. }) if reason.contains("expected")), "{refused:?}");
    assert_eq!(b.seen(), 0);
    assert_eq!(a.transport.call(&b.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
}

async fn another_cluster_is_refused<H: Harness>(net: H) {
    let (a, b, c) = (net.start(1, None).await, net.start(2, None).await, net.start(3, None).await);
    a.set_cluster(1);
    b.set_cluster(2);
    let refused = a.transport.call(&b.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await;
    let told = matches!(&refused, Err(PeerError::Refused { reason, .. }) if reason.contains("different clusters"));
    assert!(told, "{refused:?}");
    assert_eq!(b.seen(), 0);
    let newcomer = c.transport.call(&b.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await;
    assert_eq!(newcomer, Ok("x".into()), "one that has no cluster yet may talk to any");
}

async fn big_payloads_pass_and_too_big_ones_do_not<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    for (channel, bytes) in [(Channel::Control, 20 << 20), (Channel::Push, 3 << 20)] {
        let payload = Bytes::from((0..bytes).map(|i| (i % 251) as u8).collect::<Vec<_>>());
        let answer = a.transport.call(&b.peer(), channel, ECHO, payload.clone(), PLENTY * 3).await.unwrap();
        assert!(answer == payload);
    }
    let refused = a.transport.call(&b.peer(), Channel::Push, ECHO, vec![0; 5 << 20].into(), PLENTY).await;
    assert!(matches!(refused, Err(PeerError::Refused { .. })));
    assert_eq!(a.transport.call(&b.peer(), Channel::Push, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
}

async fn a_forgotten_peer_is_dialled_anew<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    assert_eq!(a.transport.call(&b.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
    a.transport.forget(&b.peer());
    a.transport.forget(&b.peer());
    assert_eq!(a.transport.call(&b.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await, Ok("x".into()));
}

/// Front doors call from single-threaded runtimes of their own, which come and go.
async fn calls_may_come_from_any_runtime<H: Harness>(net: H) {
    let (a, b) = (net.start(1, None).await, net.start(2, None).await);
    for _ in 0..2 {
        let (transport, peer) = (a.transport.clone(), b.peer());
        let elsewhere = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(transport.call(&peer, Channel::Push, ECHO, "x".into(), PLENTY))
        };
        assert_eq!(tokio::task::spawn_blocking(elsewhere).await.unwrap(), Ok("x".into()));
    }
    assert_eq!(a.transport.call(&b.peer(), Channel::Push, ECHO, "y".into(), PLENTY).await, Ok("y".into()));
}

async fn until_reached<N: AsRef<dyn PeerTransport>>(
    from: &N,
    peer: &wsgateway_cluster::PeerAddress,
    channel: Channel,
) -> Result<Bytes, PeerError> {
    let began = Instant::now();
    loop {
        let answer = from.as_ref().call(peer, channel, ECHO, "x".into(), PLENTY).await;
        if answer.is_ok() || began.elapsed() > PLENTY {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

macro_rules! suite {
    ($name:ident, $harness:ty) => {
        suite!(@each $name, $harness, call_answers, a_node_may_call_itself, unknown_node_is_asked_who_it_is,
            concurrent_calls_get_their_own_answers, a_slow_answer_delays_no_other, handlers_are_called_in_order,
            errors_and_panics_of_the_service_come_back, the_deadline_is_kept, a_peer_that_is_down_fails_fast,
            a_peer_that_restarts_is_reached_again, another_node_than_expected_is_refused, another_cluster_is_refused,
            big_payloads_pass_and_too_big_ones_do_not, a_forgotten_peer_is_dialled_anew,
            calls_may_come_from_any_runtime);
    };
    (@each $name:ident, $harness:ty, $($test:ident),*) => {
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(<$harness as super::Harness>::new()).await;
            })*
        }
    };
}

suite!(tcp, super::TcpHarness);
suite!(tls, super::TlsHarness);
suite!(memory, super::MemoryHarness);

/// What only the in-process network can do to its links.
mod cuts {
    use super::*;

    async fn ping(from: &Node, to: &Node) -> Result<Bytes, PeerError> {
        from.transport.call(&to.peer(), Channel::Control, ECHO, "x".into(), PLENTY).await
    }

    #[tokio::test]
    async fn a_cut_is_for_both_and_heals() {
        let net = MemoryHarness::new();
        let (a, b, c) = (net.start(1, None).await, net.start(2, None).await, net.start(3, None).await);
        net.0.cut(&a.addr, &b.addr);
        assert!(matches!(ping(&a, &b).await, Err(PeerError::Unreachable { sent: false, .. })));
        assert!(matches!(ping(&b, &a).await, Err(PeerError::Unreachable { sent: false, .. })));
        assert_eq!(ping(&a, &c).await, Ok("x".into()));
        net.0.heal_all();
        assert_eq!(ping(&a, &b).await, Ok("x".into()));
    }

    #[tokio::test]
    async fn a_cut_fails_the_calls_under_way() {
        let net = MemoryHarness::new();
        let (a, b) = (net.start(1, None).await, net.start(2, None).await);
        let (transport, peer) = (a.transport.clone(), b.peer());
        let under_way =
            tokio::spawn(async move { transport.call(&peer, Channel::Control, NEVER, Bytes::new(), PLENTY).await });
        b.seen_at_least(1).await;
        net.0.cut_one_way(&b.addr, &a.addr);
        assert!(matches!(under_way.await.unwrap(), Err(PeerError::Unreachable { sent: true, .. })));
    }

    #[tokio::test]
    async fn a_delay_is_felt_both_ways() {
        let net = MemoryHarness::new();
        let (a, b) = (net.start(1, None).await, net.start(2, None).await);
        net.0.set_delay(Duration::from_millis(50));
        let began = Instant::now();
        assert_eq!(ping(&a, &b).await, Ok("x".into()));
        assert!(began.elapsed() >= Duration::from_millis(100));
    }
}

impl AsRef<dyn PeerTransport> for Node {
    fn as_ref(&self) -> &(dyn PeerTransport + 'static) {
        Arc::as_ref(&self.transport)
    }
}
