//! TLS between nodes: who is let in, and how it is introduced to a cluster that runs.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{date_time_ymd, ExtendedKeyUsagePurpose, SanType};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use support::authority::{stranger, Authority, NAME};
use support::tls_nodes::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wsgateway_cluster::stream::{AcceptedStream, PeerStream};
use wsgateway_cluster::tcp::PeerTlsMode::{Optional, Required};
use wsgateway_cluster::tcp::{LinkRefusal, PeerTls, PeerTlsError, PeerTlsPem, TcpTransport};
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerError, TunnelService};

struct EchoTunnels(AtomicBool);

impl TunnelService for EchoTunnels {
    fn accept(&self, from: NodeId, mut io: AcceptedStream) {
        assert_eq!(from, 1);
        self.0.store(io.is_tls(), Ordering::Relaxed);
        tokio::spawn(async move {
            let mut bytes = [0; 5];
            io.read_exact(&mut bytes).await.unwrap();
            io.write_all(&bytes).await.unwrap();
            io.flush().await.unwrap();
            // The other end goes first.
            let _ = io.read(&mut bytes).await;
        });
    }
}

#[tokio::test]
async fn calls_questions_and_tunnels_are_all_under_tls() {
    let a = of_shared(1, Required);
    let (services, _) = services();
    let tunnels = Arc::new(EchoTunnels(AtomicBool::new(false)));
    services.set_tunnels(tunnels.clone());
    let options = options_at(ANY_PORT, Some(Authority::shared().tls(Required)));
    let b = TcpTransport::start(options, identity(2), services).unwrap();
    let addr = b.local_addr().to_string();
    assert_eq!(a.transport.whois(&addr).await, Ok(2));
    let peer = PeerAddress { node_id: Some(2), addr };
    for channel in [Channel::Control, Channel::Push] {
        let answer = a.transport.call(&peer, channel, ECHO, "x".into(), PLENTY).await;
        assert_eq!(answer, Ok("x".into()));
    }
    assert_eq!(b.accepted_links(), (0, 3), "one of whois, and two of the calls");
    let mut tunnel = a.transport.open_tunnel(&peer).await.unwrap();
    assert!(matches!(tunnel, PeerStream::Tls(_)));
    tunnel.write_all(b"hello").await.unwrap();
    tunnel.flush().await.unwrap();
    let mut back = [0; 5];
    tunnel.read_exact(&mut back).await.unwrap();
    assert_eq!((&back, tunnels.0.load(Ordering::Relaxed)), (b"hello", true));
    b.shutdown().await;
    assert_eq!(b.accepted_links(), (0, 0));
}

/// Both ways, since each side verifies the other: who is refused, and how the two count it.
#[tokio::test]
async fn nodes_whose_certificates_will_not_do_are_refused() {
    let good = || Authority::shared().tls(Required);
    let expired = Authority::shared().issues_with(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let foreign = Authority::named("somebody else").issues();
    let of_the_same_name = Authority::new().issues();
    for (what, bad, why, told) in [
        ("another authority", foreign, LinkRefusal::Authority, "no authority that is trusted"),
        ("one of the same name", of_the_same_name, LinkRefusal::Authority, "no authority that is trusted"),
        ("expired", expired, LinkRefusal::Expired, "expired"),
    ] {
        let (a, b) = (node(1, Some(PeerTls::new(Required, &bad).unwrap())), node(2, Some(good())));
        let dials = echo(&a, &b.peer()).await;
        assert!(matches!(dials, Err(PeerError::Refused { .. })), "{what}: {dials:?}");
        until(what, || tcp(&a).refusals().counts().map(|(_, count)| count).sum::<u64>() > 0).await;
        let is_dialled = echo(&b, &a.peer()).await;
        let told = matches!(&is_dialled, Err(PeerError::Refused { reason, .. }) if reason.contains(told));
        assert!(told, "{what}: {is_dialled:?}");
        until_refused(&b, why).await;
        until_refused(&a, LinkRefusal::OwnCertificate).await;
        assert_eq!((a.seen(), b.seen()), (0, 0), "{what}");
    }
}

/// No node would be set up like that: it is told so at its start, and somebody else is refused all the same.
#[tokio::test]
async fn strangers_with_and_without_certificates_are_refused() {
    let a = of_shared(1, Required);
    let shared = Authority::shared();
    let only_server =
        shared.issues_with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let good = shared.issues();
    for (dials, why) in [
        (stranger(&good, false, &TLS13), LinkRefusal::NoCertificate),
        (stranger(&only_server, true, &TLS13), LinkRefusal::Certificate),
        (stranger(&good, true, &TLS12), LinkRefusal::TlsVersion),
    ] {
        let io = TcpStream::connect(&a.addr).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        // With TLS 1.3 the dialling side is done before it hears the verdict.
        let heard = match dials.connect(name, io).await {
            Ok(mut io) => io.read_u8().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(heard.to_string().contains("alert"), "{why:?}: {heard}");
        until_refused(&a, why).await;
    }
    assert_eq!(a.seen(), 0);
}

#[tokio::test]
async fn plain_where_tls_is_required_and_tls_where_there_is_none_are_refused() {
    let (plain, required) = (node(1, None), of_shared(2, Required));
    let refused = echo(&plain, &required.peer()).await;
    assert!(
        matches!(&refused, Err(PeerError::Refused { reason, .. }) if reason.contains("cluster.tls")),
        "{refused:?}"
    );
    until_refused(&required, LinkRefusal::Plaintext).await;
    let failed = echo(&required, &plain.peer()).await;
    let told =
        matches!(&failed, Err(PeerError::Unreachable { reason, sent: false, .. }) if reason.contains("cluster.tls"));
    assert!(told, "{failed:?}");
    assert!(!failed.unwrap_err().proves_absence(), "somebody is there");
    until_refused(&plain, LinkRefusal::Tls).await;
    assert_eq!((plain.seen(), required.seen()), (0, 0));
}

#[tokio::test]
async fn under_tls_the_secret_is_needed_all_the_same() {
    let a = of_shared(1, Required);
    let mut other = options_at(ANY_PORT, Some(Authority::shared().tls(Required)));
    other.secrets = vec![b"another secret".to_vec()];
    let b = TcpHarness::start_with(2, other);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let refused = echo(from, &to.peer()).await;
        assert!(matches!(&refused, Err(PeerError::Refused { reason, .. }) if reason.contains("secret")), "{refused:?}");
    }
    assert_eq!((a.seen(), b.seen()), (0, 0));
}

#[tokio::test]
async fn what_other_nodes_would_refuse_is_an_error_at_start() {
    let shared = Authority::shared();
    let good = shared.issues();
    let make = |pem: &PeerTlsPem| PeerTls::new(Required, pem).map(|tls| tls.not_after());
    assert!(make(&good).unwrap() > 0);
    let bad = |change: &dyn Fn(&mut PeerTlsPem)| {
        let mut pem = good.clone();
        change(&mut pem);
        make(&pem).unwrap_err()
    };
    let (other, of_another) = (shared.issues(), Authority::new().pem.into_bytes());
    assert!(matches!(bad(&|pem| pem.key = other.key.clone()), PeerTlsError::Key(_)));
    assert!(matches!(bad(&|pem| pem.key = b"no key".to_vec()), PeerTlsError::Key(_)));
    assert!(matches!(bad(&|pem| pem.certificate = b"no PEM".to_vec()), PeerTlsError::Certificate(_)));
    assert!(matches!(bad(&|pem| pem.ca.clear()), PeerTlsError::Authority(_)));
    assert!(matches!(bad(&|pem| pem.ca = of_another.clone()), PeerTlsError::Certificate(_)));
    assert!(matches!(bad(&|pem| pem.certificate = pem.ca.clone()), PeerTlsError::Certificate(_)));
    for usage in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth] {
        let half = shared.issues_with(|params| params.extended_key_usages = vec![usage]);
        let error = make(&half).unwrap_err();
        assert!(error.to_string().contains("both server and client"), "{error}");
    }
    let missing = PeerTlsPem::read("nowhere.crt".as_ref(), "nowhere.key".as_ref(), "nowhere.ca".as_ref()).unwrap_err();
    assert!(missing.to_string().starts_with("nowhere.crt: "), "{missing}");
}

/// Names are not looked at: by an address, or under one name for all nodes, or with none, a certificate is as good.
#[tokio::test]
async fn certificates_may_have_any_names() {
    let named = |names: Vec<SanType>| {
        let pem = Authority::shared().issues_with(|params| params.subject_alt_names = names);
        PeerTls::new(Required, &pem).unwrap()
    };
    let (a, b) = (node(1, Some(named(vec![]))), node(2, Some(named(vec![SanType::DnsName("n2".try_into().unwrap())]))));
    assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()));
    assert_eq!(echo(&b, &a.peer()).await, Ok("x".into()));
}

type Step = fn() -> Option<PeerTls>;
const STEPS: [Step; 3] =
    [|| None, || Some(Authority::shared().tls(Optional)), || Some(Authority::shared().tls(Required))];

/// Nodes are restarted one after the other with the next step. Of the two that are not, each reaches the other at any
/// moment, and the restarted one is reached again from both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_introduced_while_nodes_reach_each_other() {
    let mut nodes: Vec<Node> = (1..=3).map(|id| node(id, None)).collect();
    for step in &STEPS[1..] {
        for at in 0..3 {
            let (one, other) = (&nodes[(at + 1) % 3], &nodes[(at + 2) % 3]);
            let done = AtomicBool::new(false);
            let traffic = async {
                let mut calls = 0;
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(echo(one, &other.peer()).await, Ok("x".into()));
                    assert_eq!(echo(other, &one.peer()).await, Ok("x".into()));
                    calls += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                calls
            };
            let restart = async {
                let (id, addr) = (nodes[at].identity.node_id, nodes[at].addr.clone());
                tcp(&nodes[at]).shutdown().await;
                let restarted = TcpHarness::start_with(id, options_at(&addr, step()));
                for node in [one, other] {
                    // New links, as they are made when one breaks: what is up already would say nothing of this step.
                    assert_eq!(echo(&restarted, &node.peer()).await, Ok("x".into()));
                    let began = Instant::now();
                    while echo(node, &restarted.peer()).await.is_err() {
                        assert!(began.elapsed() < PLENTY, "{id} is not reached");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                done.store(true, Ordering::Relaxed);
                restarted
            };
            let (calls, restarted) = tokio::join!(traffic, restart);
            assert!(calls > 0);
            nodes[at] = restarted;
        }
        let expected = step().is_some();
        for node in &nodes {
            for other in &nodes {
                node.transport.forget(&other.peer());
                assert_eq!(echo(node, &other.peer()).await, Ok("x".into()));
            }
        }
        for node in &nodes {
            until("no link without TLS", || tcp(node).accepted_links().0 == 0 && expected).await;
        }
    }
}

#[tokio::test]
async fn every_pair_of_neighbouring_steps_talks_both_ways() {
    for pair in STEPS.windows(2) {
        for (mine, theirs) in [(pair[0], pair[1]), (pair[1], pair[0]), (pair[1], pair[1])] {
            let (a, b) = (node(1, mine()), node(2, theirs()));
            for channel in [Channel::Control, Channel::Push] {
                let answer = a.transport.call(&b.peer(), channel, ECHO, "x".into(), PLENTY).await;
                assert_eq!(answer, Ok("x".into()));
            }
            assert_eq!(a.transport.whois(&b.addr).await, Ok(2));
        }
    }
    let (a, b) = (of_shared(1, Optional), of_shared(2, Optional));
    assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()));
    assert_eq!(tcp(&b).accepted_links(), (0, 1), "two that speak TLS use it");
}

/// How often a peer was connected to, that does with connections what it is told to.
async fn counting_peer(closes: bool) -> (PeerAddress, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let peer = PeerAddress { node_id: None, addr: listener.local_addr().unwrap().to_string() };
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((io, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            if !closes {
                kept.push(io);
            }
        }
    });
    (peer, connections)
}

/// A second connection is for peers that took the first and would not speak TLS; others cost what they did before.
#[tokio::test]
async fn a_peer_that_is_down_or_silent_is_not_tried_twice() {
    let mut soon = options_at(ANY_PORT, Some(Authority::shared().tls(Optional)));
    soon.timeouts.open = Duration::from_millis(300);
    (soon.timeouts.backoff_min, soon.timeouts.backoff_max) = (PLENTY * 2, PLENTY * 2);
    let a = TcpHarness::start_with(1, soon);
    let (silent, connections) = counting_peer(false).await;
    let began = Instant::now();
    assert!(matches!(echo(&a, &silent).await, Err(PeerError::Unreachable { sent: false, .. })));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    let (closing, connections) = counting_peer(true).await;
    assert!(matches!(echo(&a, &closing).await, Err(PeerError::Unreachable { sent: false, .. })));
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    let nobody = PeerAddress {
        node_id: None,
        addr: TcpListener::bind(ANY_PORT).await.unwrap().local_addr().unwrap().to_string(),
    };
    let began = Instant::now();
    let failed = echo(&a, &nobody).await;
    assert!(failed.as_ref().is_err_and(PeerError::proves_absence), "{failed:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// A connection that begins like TLS and then says nothing has as long as any other.
#[tokio::test]
async fn the_handshake_deadline_is_for_tls_too() {
    let mut soon = options_at(ANY_PORT, Some(Authority::shared().tls(Optional)));
    soon.timeouts.handshake = Duration::from_millis(200);
    let a = TcpHarness::start_with(1, soon);
    for said in [&b""[..], &[0x16], &[0x16, 3, 1, 0, 100, 1]] {
        let mut io = TcpStream::connect(&a.addr).await.unwrap();
        io.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PLENTY, io.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open after {said:?}");
    }
}

/// The steps of replacing the authority: neighbours reach each other, no node is restarted, and no link breaks.
#[tokio::test]
async fn the_authority_is_replaced_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = [old.pem.as_bytes(), new.pem.as_bytes()].concat();
    let with = |pem: PeerTlsPem, ca: &[u8]| PeerTlsPem { ca: ca.to_vec(), ..pem };
    let steps: [&dyn Fn() -> PeerTlsPem; 4] =
        [&|| old.issues(), &|| with(old.issues(), &both), &|| with(new.issues(), &both), &|| new.issues()];
    let start = || Some(PeerTls::new(Required, &old.issues()).unwrap());
    let (a, b) = (node(1, start()), node(2, start()));
    assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()));
    for step in &steps[1..] {
        for reloaded in [&a, &b] {
            tcp(reloaded).tls().unwrap().reload(&step()).unwrap();
            assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()), "the link that was there");
            assert_eq!(a.transport.whois(&b.addr).await, Ok(2));
            assert_eq!(b.transport.whois(&a.addr).await, Ok(1));
            for (from, to) in [(&a, &b), (&b, &a)] {
                drop(from.transport.open_tunnel(&to.peer()).await.expect("a new connection"));
            }
        }
    }
    assert_eq!(tcp(&b).accepted_links(), (0, 2), "a link of calls and one of questions, the first ones");
}

#[tokio::test]
async fn new_links_have_what_was_reloaded_and_nothing_changes_on_an_error() {
    let (a, b) = (of_shared(1, Required), of_shared(2, Required));
    assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()));
    let tls = tcp(&b).tls().unwrap();
    let before = tls.not_after();
    let mut unusable = Authority::shared().issues();
    unusable.key = Authority::shared().issues().key;
    assert!(matches!(tls.reload(&unusable), Err(PeerTlsError::Key(_))));
    assert_eq!(tls.not_after(), before);
    assert!(a.transport.open_tunnel(&b.peer()).await.is_ok());

    let shorter = Authority::new().issues_with(|params| params.not_after = date_time_ymd(2900, 1, 1));
    tls.reload(&shorter).unwrap();
    assert!(tls.not_after() < before);
    assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()), "the link that was there stays");
    let refused = a.transport.open_tunnel(&b.peer()).await.map(|_| ());
    assert!(matches!(refused, Err(PeerError::Refused { .. })), "{refused:?}");
    until_refused(&a, LinkRefusal::Authority).await;
}
