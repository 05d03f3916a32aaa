//! Tests of the limits of one endpoint.

use super::super::throttling::{IdentityKey, OnExceeded};
use super::*;

fn none() -> Throttling {
    Throttling {
        max_connections: None,
        connections_per_second: None,
        messages_per_second: None,
        per_connection: None,
        per_identity: None,
        scope: Scope::Cluster,
        on_exceeded: OnExceeded::Reject,
    }
}

fn slow(burst: u64) -> Rate {
    rate(1.0, Some(burst))
}

#[test]
fn connections_are_counted_until_they_end() {
    let now = Instant::now();
    let throttle = Throttle::new(now);
    let limits = Throttling { max_connections: Some(2), ..none() };
    let unlimited = throttle.admit(None, now).unwrap();
    let second = throttle.admit(Some(&limits), now).unwrap();
    let full = Exceeded { limit: Limit::MaxConnections, retry_after: FULL_RETRY_AFTER };
    assert_eq!(throttle.admit(Some(&limits), now).unwrap_err(), full);
    drop(unlimited);
    let third = throttle.admit(Some(&limits), now).unwrap();
    assert_eq!(throttle.admitted(), 2);
    drop((second, third));
    assert_eq!((throttle.admitted(), throttle.take_tried(), throttle.take_tried()), (0, (3, 0), (0, 0)));
}

#[test]
fn a_part_of_a_cluster_limit_and_the_whole_of_a_nodes() {
    let now = Instant::now();
    let throttle = Throttle::new(now);
    throttle.parts.connections.set(1.0 / 3.0);
    let mut limits = Throttling { max_connections: Some(3), ..none() };
    let _one = throttle.admit(Some(&limits), now).unwrap();
    assert!(throttle.admit(Some(&limits), now).is_err());
    limits.scope = Scope::Node;
    assert!(throttle.admit(Some(&limits), now).is_ok());
    for (max, whole) in [(3, 1), (3, 2), (100, 7), (1_000_000, 999_999)] {
        assert_eq!(part_of(max, whole as f64 / max as f64), whole);
    }
}

#[test]
fn a_refused_rate_gives_the_connection_back() {
    let now = Instant::now();
    let throttle = Throttle::new(now);
    let limits = Throttling { max_connections: Some(2), connections_per_second: Some(slow(1)), ..none() };
    let _one = throttle.admit(Some(&limits), now).unwrap();
    let refused = throttle.admit(Some(&limits), now).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (Limit::ConnectionsPerSecond, Duration::from_secs(1)));
    assert_eq!(throttle.admitted(), 1);
    assert!(throttle.admit(Some(&limits), now + Duration::from_secs(1)).is_ok());
}

#[test]
fn what_one_limit_gave_is_given_back_when_another_refuses() {
    let now = Instant::now();
    let throttle = Throttle::new(now);
    let identity = (IdentityKey::User, slow(2));
    let limits = Throttling {
        per_connection: Some(slow(2)),
        per_identity: Some(identity),
        messages_per_second: Some(slow(1)),
        ..none()
    };
    let (a, b) = (ConnectionThrottle::default(), ConnectionThrottle::default());
    let take = |of: &ConnectionThrottle, limits: &Throttling| throttle.take_message(limits, of, now, || 1);
    take(&a, &limits).unwrap();
    assert_eq!(take(&a, &limits).unwrap_err().limit, Limit::MessagesPerSecond);
    let without = Throttling { messages_per_second: None, ..limits.clone() };
    take(&a, &without).unwrap();
    assert_eq!(take(&a, &without).unwrap_err().limit, Limit::PerConnection);
    // The same identity on another connection has used its two.
    assert_eq!(take(&b, &without).unwrap_err().limit, Limit::PerIdentity);
    assert!(throttle.take_message(&without, &b, now, || unreachable!("it is known")).is_err());
    b.forget_identity();
    assert!(throttle.take_message(&without, &b, now, || 2).is_ok());
    let only_own = Throttling { per_identity: None, ..without };
    take(&b, &only_own).unwrap();
    assert!(take(&b, &only_own).is_err(), "refused messages had taken nothing of the connection's own");
}

#[test]
fn a_rate_without_a_burst() {
    assert_eq!((rate(0.1, None).burst, rate(2.5, None).burst, rate(5.0, Some(1)).burst), (1.0, 3.0, 1.0));
}
