//! Rules one by one, then every run of a small world: random orders of probes, restarts and wiped disks never give two
//! clusters.

use super::*;

const CLUSTER: ClusterId = ClusterId(77);

fn list(seeds: &[&str]) -> Vec<String> {
    seeds.iter().map(|seed| (*seed).to_owned()).collect()
}

fn input(me: NodeId, my_addr: &str, seeds: &[&str], expect: usize) -> BootstrapInput {
    BootstrapInput {
        my_node_id: me,
        my_addr: my_addr.into(),
        seeds: list(seeds),
        expect,
        initialised: None,
        promised_to: None,
        answers: vec![],
    }
}

fn answer(addr: &str, node_id: NodeId, promised_to: Option<NodeId>) -> ProbeAnswer {
    ProbeAnswer {
        addr: addr.into(),
        node_id,
        initialised: None,
        seed_list_hash: seed_list_hash(&list(&SEEDS)),
        promised_to,
    }
}

const SEEDS: [&str; 3] = ["b:7000", "a:7000", "c:7000"];

fn is_wait(step: &BootstrapStep) -> bool {
    matches!(step, BootstrapStep::Wait { .. })
}

#[test]
fn hash_ignores_order_case_and_blanks_but_not_content() {
    assert_eq!(seed_list_hash(&list(&SEEDS)), seed_list_hash(&list(&["A:7000 ", "c:7000", "b:7000", "b:7000"])));
    assert_ne!(seed_list_hash(&list(&SEEDS)), seed_list_hash(&list(&["a:7000", "b:7000"])));
    assert_ne!(seed_list_hash(&list(&["ab", "c"])), seed_list_hash(&list(&["a", "bc"])));
}

#[test]
fn one_node_initialises_at_once() {
    assert_eq!(decide(&input(1, "a:7000", &[], 1)), BootstrapStep::Initialise);
    assert_eq!(decide(&input(1, "a:7000", &["a:7000"], 1)), BootstrapStep::Initialise);
}

#[test]
fn one_seed_that_is_someone_else_is_waited_for() {
    assert!(is_wait(&decide(&input(1, "b:7000", &["a:7000"], 1))));
}

#[test]
fn initialised_node_is_done() {
    let mut it = input(1, "a:7000", &SEEDS, 3);
    it.initialised = Some(CLUSTER);
    assert_eq!(decide(&it), BootstrapStep::Done(CLUSTER));
}

#[test]
fn lowest_seed_initialises_after_all_promises() {
    let mut it = input(1, "a:7000", &SEEDS, 3);
    assert!(is_wait(&decide(&it)));
    it.answers = vec![answer("b:7000", 2, Some(1)), answer("c:7000", 3, None)];
    assert!(is_wait(&decide(&it)));
    it.answers[1].promised_to = Some(1);
    assert_eq!(decide(&it), BootstrapStep::Initialise);
    it.answers[1].promised_to = Some(9);
    assert!(is_wait(&decide(&it)));
}

#[test]
fn one_node_behind_two_names_counts_once() {
    let mut it = input(1, "a:7000", &SEEDS, 3);
    it.answers = vec![answer("b:7000", 2, Some(1)), answer("c:7000", 2, Some(1))];
    assert!(is_wait(&decide(&it)));
}

#[test]
fn answers_from_outside_the_list_do_not_count() {
    let mut it = input(1, "a:7000", &SEEDS, 3);
    it.answers = vec![answer("b:7000", 2, Some(1)), answer("z:7000", 26, Some(1))];
    assert!(is_wait(&decide(&it)));
}

#[test]
fn lowest_seed_known_by_an_alias_is_recognised_by_its_own_answer() {
    let mut it = input(1, "10.0.0.1:7000", &SEEDS, 3);
    it.answers = vec![answer("a:7000", 1, None), answer("b:7000", 2, Some(1)), answer("c:7000", 3, Some(1))];
    assert_eq!(decide(&it), BootstrapStep::Initialise);
}

#[test]
fn others_promise_to_the_lowest_seed_once() {
    let mut it = input(2, "b:7000", &SEEDS, 3);
    it.answers = vec![answer("c:7000", 3, None)];
    assert!(is_wait(&decide(&it)));
    it.answers.push(answer("a:7000", 1, None));
    assert_eq!(decide(&it), BootstrapStep::PromiseTo { addr: "a:7000".into(), node_id: 1 });
    it.promised_to = Some(1);
    assert!(is_wait(&decide(&it)));
    it.answers[1].node_id = 99;
    assert!(is_wait(&decide(&it)), "a promise never changes");
}

#[test]
fn others_never_initialise_whatever_they_hear() {
    let mut it = input(2, "b:7000", &SEEDS, 3);
    it.promised_to = Some(2);
    it.answers = vec![answer("a:7000", 1, Some(2)), answer("c:7000", 3, Some(2))];
    assert!(is_wait(&decide(&it)));
}

#[test]
fn restarted_seed_with_an_empty_disk_joins_what_the_others_have() {
    let mut it = input(111, "a:7000", &SEEDS, 3);
    it.answers = vec![answer("b:7000", 2, Some(1)), answer("c:7000", 3, Some(1))];
    it.answers[1].initialised = Some(CLUSTER);
    let step = BootstrapStep::Join { addr: "c:7000".into(), node_id: 3, cluster_id: CLUSTER };
    assert_eq!(decide(&it), step);
    it.answers[1].initialised = None;
    assert!(is_wait(&decide(&it)), "promises to its former self do not count");
}

#[test]
fn initialised_answer_is_joined_even_with_another_seed_list() {
    let mut it = input(4, "d:7000", &["a:7000"], 0);
    assert!(is_wait(&decide(&it)));
    it.answers = vec![answer("a:7000", 1, None)];
    assert!(is_wait(&decide(&it)));
    it.answers[0].initialised = Some(CLUSTER);
    assert!(matches!(decide(&it), BootstrapStep::Join { node_id: 1, .. }));
}

#[test]
fn two_clusters_among_the_seeds_are_refused() {
    let mut it = input(3, "c:7000", &SEEDS, 3);
    it.answers = vec![answer("a:7000", 1, None), answer("b:7000", 2, None)];
    it.answers[0].initialised = Some(CLUSTER);
    it.answers[1].initialised = Some(ClusterId(78));
    assert!(matches!(decide(&it), BootstrapStep::Refuse { reason } if reason.contains("different clusters")));
}

#[test]
fn another_seed_list_is_refused() {
    let mut it = input(1, "a:7000", &SEEDS, 3);
    it.answers = vec![answer("b:7000", 2, Some(1)), answer("c:7000", 3, Some(1))];
    it.answers[0].seed_list_hash ^= 1;
    assert!(matches!(decide(&it), BootstrapStep::Refuse { reason } if reason.contains("b:7000")));
}

#[test]
fn expect_that_cannot_work_is_refused() {
    let refused =
        |expect, seeds: &[&str]| matches!(decide(&input(1, "a:1", seeds, expect)), BootstrapStep::Refuse { .. });
    assert!(refused(3, &["a:1", "b:1"]));
    assert!(refused(2, &[]));
    assert!(refused(1, &["a:1", "b:1"]));
    assert!(refused(2, &["a:1", "b:1", "c:1"]));
    assert!(!refused(2, &["a:1", "b:1"]));
    assert!(!refused(3, &["a:1", "b:1", "c:1"]));
    assert!(refused(3, &["a:1", "b:1", "c:1", "d:1", "e:1"]));
    assert!(!refused(4, &["a:1", "b:1", "c:1", "d:1", "e:1"]));
}

#[test]
fn promise_on_request_follows_the_same_rules() {
    let mut it = input(2, "b:7000", &SEEDS, 3);
    let mut request =
        PromiseRequest { node_id: 1, addr: "a:7000".into(), seed_list_hash: seed_list_hash(&list(&SEEDS)) };
    assert_eq!(decide_promise(&it, &request), Ok(1));
    it.promised_to = Some(1);
    assert_eq!(decide_promise(&it, &request), Ok(1));
    it.promised_to = Some(5);
    assert!(decide_promise(&it, &request).is_err());
    it.promised_to = None;
    request.addr = "c:7000".into();
    assert!(decide_promise(&it, &request).is_err());
    request.addr = "a:7000".into();
    request.seed_list_hash ^= 1;
    assert!(decide_promise(&it, &request).is_err());
    it.initialised = Some(CLUSTER);
    assert!(decide_promise(&it, &request).is_err());
}

/// One seed of the small world.
#[derive(Clone)]
struct Seed {
    id: NodeId,
    initialised: Option<ClusterId>,
    promised_to: Option<NodeId>,
}

/// Small deterministic generator (xorshift), so that a failing world can be run again by its number.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

/// In any order of rounds in which random seeds answer, with one disk wiped at any moment, at most one cluster is made;
/// and without a wiped disk one *is* made.
#[test]
fn no_order_of_events_makes_two_clusters() {
    for world in 1..=3_000_u64 {
        let mut random = world.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let size = 2 + next(&mut random) % 4;
        let addrs: Vec<String> = (0..size).map(|i| format!("n{i}:7000")).collect();
        let hash = seed_list_hash(&addrs);
        let expect = size - usize::from(size == 5 && next(&mut random).is_multiple_of(2));
        let fresh = |id| Seed { id, initialised: None, promised_to: None };
        let mut seeds: Vec<Seed> = (0..size as u64).map(|id| fresh(id + 1)).collect();
        let (mut made, mut next_id, mut wiped) = (0_u128, 100, false);
        for turn in 0..200 {
            let faults = turn < 150;
            let me = next(&mut random) % size;
            if faults && !wiped && next(&mut random).is_multiple_of(20) {
                next_id += 1;
                seeds[me] = fresh(next_id);
                wiped = true;
                continue;
            }
            let mut it = input(seeds[me].id, &addrs[me], &[], expect);
            it.seeds = addrs.clone();
            it.initialised = seeds[me].initialised;
            it.promised_to = seeds[me].promised_to;
            for (seed, addr) in seeds.iter().zip(&addrs) {
                if !faults || !next(&mut random).is_multiple_of(3) {
                    it.answers.push(ProbeAnswer {
                        addr: addr.clone(),
                        node_id: seed.id,
                        initialised: seed.initialised,
                        seed_list_hash: hash,
                        promised_to: seed.promised_to,
                    });
                }
            }
            match decide(&it) {
                BootstrapStep::Initialise => {
                    made += 1;
                    seeds[me].initialised = Some(ClusterId(made));
                }
                BootstrapStep::Join { cluster_id, .. } => seeds[me].initialised = Some(cluster_id),
                BootstrapStep::PromiseTo { node_id, .. } => {
                    assert!(seeds[me].promised_to.is_none(), "world {world}: promised twice");
                    seeds[me].promised_to = Some(node_id);
                }
                BootstrapStep::Refuse { reason } => panic!("world {world}: refused: {reason}"),
                BootstrapStep::Done(_) | BootstrapStep::Wait { .. } => {}
            }
        }
        assert!(made <= 1, "world {world}: {made} clusters");
        if !wiped {
            assert!(seeds.iter().all(|seed| seed.initialised.is_some()), "world {world}: never started");
        }
    }
}
