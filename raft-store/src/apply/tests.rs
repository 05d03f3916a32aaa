//! Tests of the state machine's commands, one by one.

use super::*;

/// A state with what it has written, as the disk would hold it.
#[derive(Default)]
struct Machine {
    state: State,
    versions: BTreeMap<(String, String, u64), Version>,
    audited: BTreeMap<u64, Audited>,
    index: u64,
}

impl Machine {
    fn request(&mut self, request_id: &str, command: Command) -> Reply {
        self.noted(request_id, command, None)
    }

    fn noted(&mut self, request_id: &str, command: Command, note: Option<&str>) -> Reply {
        self.index += 1;
        let note = note.map(str::to_owned);
        let versions = self.versions.clone();
        let key_of = |kind: &str, id: &str, version: u64| {
            Ok::<_, ()>(versions.get(&(kind.to_owned(), id.to_owned(), version)).map(|found| found.key.clone()))
        };
        let (reply, writes) = self.state.apply(self.index, request_id, command, note, &key_of).unwrap();
        for write in writes {
            match write {
                Write::PutVersion { kind, id, version } => {
                    self.versions.insert((kind, id, version.version), version);
                }
                Write::DeleteVersions { kind, id } => {
                    self.versions.retain(|(of_kind, of_id, _), _| (of_kind, of_id) != (&kind, &id));
                }
                Write::PutAudited { index, audited } => {
                    self.audited.insert(index, audited);
                }
                Write::DeleteAudited { index } => {
                    self.audited.remove(&index).expect("only what is there is removed");
                }
                _ => {}
            }
        }
        reply
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.request("", command)
    }

    fn head(&self, id: &str) -> Head {
        self.state.head("endpoint", id).unwrap()
    }
}

fn by(at: u64) -> Authorship {
    Authorship { author: "ann".to_owned(), message: "because".to_owned(), at }
}

fn create(id: &str, key: &str) -> Command {
    let (kind, id, key) = ("endpoint".to_owned(), id.to_owned(), key.to_owned());
    Command::Create { kind, id, key, document: "{}".to_owned(), by: by(1) }
}

fn update(id: &str, key: &str, activate: bool, expected: Option<u64>) -> Command {
    let (kind, id, key) = ("endpoint".to_owned(), id.to_owned(), key.to_owned());
    Command::Update { kind, id, key, document: "{\"n\":2}".to_owned(), activate, expected, by: by(2) }
}

fn activate(id: &str, version: u64, expected: Option<u64>) -> Command {
    Command::Activate { kind: "endpoint".to_owned(), id: id.to_owned(), version, expected, by: by(3) }
}

fn delete(id: &str, expected: Option<u64>) -> Command {
    Command::Delete { kind: "endpoint".to_owned(), id: id.to_owned(), expected, by: by(4) }
}

fn done(id: &str, version: u64, index: u64) -> Reply {
    Reply::Done { id: id.to_owned(), version, index }
}

fn rejected(rejection: Rejection) -> Reply {
    Reply::Rejected { rejection }
}

fn key_taken(key: &str, holder: &str) -> Reply {
    rejected(Rejection::KeyTaken { key: key.to_owned(), holder: holder.to_owned() })
}

#[test]
fn create_stores_and_activates_version_1() {
    let mut machine = Machine::default();
    assert_eq!(machine.apply(create("a", "/a")), done("a", 1, 1));
    let head = machine.head("a");
    assert_eq!((head.active_version, head.latest_version, head.modified_index), (1, 1, 1));
    assert_eq!((head.key.as_str(), head.created_at, head.updated_at), ("/a", 1, 1));
    let version = &machine.versions[&("endpoint".to_owned(), "a".to_owned(), 1)];
    assert_eq!(version.hash, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    assert_eq!((version.by.author.as_str(), &*version.document), ("ann", "{}"));
}

#[test]
fn create_is_refused_for_a_taken_key_or_id() {
    let mut machine = Machine::default();
    machine.apply(create("a", "/a"));
    assert_eq!(machine.apply(create("b", "/a")), key_taken("/a", "a"));
    assert_eq!(machine.apply(create("a", "/b")), rejected(Rejection::IdTaken { id: "a".to_owned() }));
    assert_eq!(machine.state.heads("endpoint").len(), 1);
    assert_eq!(machine.versions.len(), 1);
}

#[test]
fn keys_and_ids_of_another_kind_are_free() {
    let mut machine = Machine::default();
    machine.apply(create("a", "/a"));
    let other = Command::Create {
        kind: "backend".to_owned(),
        id: "a".to_owned(),
        key: "/a".to_owned(),
        document: String::new(),
        by: by(1),
    };
    assert_eq!(machine.apply(other), done("a", 1, 2));
    assert_eq!(machine.state.heads("endpoint").len(), 1);
    assert_eq!(machine.state.heads("backend").len(), 1);
    assert_eq!(machine.state.heads("back").len(), 0);
}

#[test]
fn update_makes_the_next_version_and_moves_the_key_when_it_activates() {
    let mut machine = Machine::default();
    machine.apply(create("a", "/a"));
    assert_eq!(machine.apply(update("a", "/b", true, Some(1))), done("a", 2, 2));
    assert_eq!(machine.head("a").key, "/b");
    assert_eq!(machine.head("a").active_version, 2);
    assert_eq!(machine.head("a").created_at, 1);
    assert_eq!(machine.head("a").updated_at, 2);
    assert_eq!(machine.apply(create("c", "/a")), done("c", 1, 3), "the former key is free");
    assert_eq!(machine.apply(create("d", "/b")), key_taken("/b", "a"));
}

#[test]
fn update_without_activation_takes_the_key_only_at_activation() {
    let mut machine = Machine::default();
    machine.apply(create("a", "/a"));
    machine.apply(create("b", "/b"));
    assert_eq!(machine.apply(update("a", "/b", false, None)), done("a", 2, 3));
    assert_eq!((machine.head("a").active_version, machine.head("a").latest_version), (1, 2));
    assert_eq!(machine.head("a").key, "/a");
    assert_eq!(machine.apply(activate("a", 2, None)), key_taken("/b", "b"));
    assert_eq!(machine.head("a").active_version, 1);
    machine.apply(delete("b", None));
    assert_eq!(machine.apply(activate("a", 2, None)), done("a", 2, 6));
    assert_eq!(machine.head("a").key, "/b");
}

#[test]
fn update_is_refused_for_a_taken_key_an_unknown_id_or_another_active_version() {
    let mut machine = Machine::default();
    machine.apply(create("a", "/a"));
    machine.apply(create("b", "/b"));
    assert_eq!(machine.apply(update("a", "/b", true, None)), key_taken("/b", "b"));
    let mismatch = Rejection::VersionMismatch { expected: 9, active: 1 };
    assert_eq!(machine.apply(update("a", "/a", true, Some(9))), rejected(mismatch));
    assert_eq!(machine.apply(update("x", "/x", true, None)), rejected(Rejection::NotFound { id: "x".to_owned() }));
    assert_eq!(machine.head("a").latest_version, 1);
}

#[test]
fn activate_goes_back_and_forth_and_takes_the_keys_along() {
    let mut machine = Machine::default();
    machine.apply(create("a", "/a"));
    machine.apply(update("a", "/b", true, None));
    assert_eq!(machine.apply(activate("a", 1, Some(2))), done("a", 1, 3));
    assert_eq!((machine.head("a").key.as_str(), machine.head("a").latest_version), ("/a", 2));
    let missing = Rejection::VersionNotFound { id: "a".to_owned(), version: 3 };
    assert_eq!(machine.apply(activate("a", 3, None)), rejected(missing));
    assert_eq!(
        machine.apply(activate("a", 2, Some(2))),
        rejected(Rejection::VersionMismatch { expected: 2, active: 1 })
    );
    assert_eq!(machine.apply(activate("x", 1, None)), rejected(Rejection::NotFound { id: "x".to_owned() }));
}

#[test]
fn delete_frees_id_key_and_versions() {
    let mut machine = Machine::default();
    machine.apply(create("a", "/a"));
    machine.apply(update("a", "/a", false, None));
    let mismatch = Rejection::VersionMismatch { expected: 2, active: 1 };
    assert_eq!(machine.apply(delete("a", Some(2))), rejected(mismatch));
    assert_eq!(machine.apply(delete("a", Some(1))), done("a", 1, 4));
    assert_eq!(machine.apply(delete("a", None)), rejected(Rejection::NotFound { id: "a".to_owned() }));
    assert!(machine.versions.is_empty());
    assert_eq!(machine.apply(create("a", "/a")), done("a", 1, 6));
}

#[test]
fn a_repeated_request_is_answered_again_but_not_done_again() {
    let mut machine = Machine::default();
    let first = machine.request("r1", create("a", "/a"));
    assert_eq!(machine.request("r1", create("a", "/a")), first);
    assert_eq!(machine.request("r2", create("a", "/a")), rejected(Rejection::IdTaken { id: "a".to_owned() }));
    machine.apply(delete("a", None));
    assert_eq!(
        machine.request("r2", create("a", "/a")),
        rejected(Rejection::IdTaken { id: "a".to_owned() }),
        "a rejection is remembered too"
    );
}

#[test]
fn the_oldest_requests_are_forgotten_in_log_order() {
    let mut machine = Machine::default();
    machine.request("first", create("a", "/a"));
    for number in 1..REQUESTS_MAX {
        machine.request(&format!("r{number}"), delete("none", None));
    }
    assert_eq!(machine.request("first", create("a", "/a")), done("a", 1, 1), "still remembered");
    machine.request("one more", delete("none", None));
    assert_eq!(machine.request("first", create("a", "/a")), rejected(Rejection::IdTaken { id: "a".to_owned() }));
    assert_eq!(machine.state.requests.len(), REQUESTS_MAX);
    assert_eq!(machine.state.request_index.len(), REQUESTS_MAX);
}

#[test]
fn a_draft_holds_its_key_and_is_active_only_when_activated() {
    let mut machine = Machine::default();
    let draft = Command::Draft {
        kind: "endpoint".to_owned(),
        id: "a".to_owned(),
        key: "/a".to_owned(),
        document: "{}".to_owned(),
        by: by(1),
    };
    assert_eq!(machine.apply(draft), done("a", 1, 1));
    assert_eq!((machine.head("a").active_version, machine.head("a").latest_version), (0, 1));
    assert_eq!(machine.apply(create("b", "/a")), key_taken("/a", "a"));
    assert_eq!(machine.apply(update("a", "/a", false, Some(0))), done("a", 2, 3));
    assert_eq!(machine.head("a").active_version, 0);
    let mismatch = Rejection::VersionMismatch { expected: 1, active: 0 };
    assert_eq!(machine.apply(activate("a", 2, Some(1))), rejected(mismatch));
    assert_eq!(machine.apply(activate("a", 1, Some(0))), done("a", 1, 5));
    assert_eq!(machine.head("a").active_version, 1);
}

#[test]
fn a_note_is_kept_with_what_became_of_its_command() {
    let mut machine = Machine::default();
    machine.noted("r1", create("a", "/a"), Some("first"));
    machine.noted("r2", create("b", "/a"), Some("second"));
    machine.noted("", Command::Record {}, Some("third"));
    machine.noted("r1", create("a", "/a"), Some("the first again"));
    machine.apply(delete("a", None));
    let audited: Vec<_> = machine.audited.iter().map(|(index, it)| (*index, it.note.as_str(), &it.reply)).collect();
    let (first, second, third) = (done("a", 1, 1), key_taken("/a", "a"), done("", 0, 3));
    assert_eq!(audited, [(1, "first", &first), (2, "second", &second), (3, "third", &third)]);
}

#[test]
fn the_oldest_notes_go_first() {
    let mut machine = Machine::default();
    for number in 1..=AUDITED_MAX + 3 {
        machine.noted("", Command::Record {}, Some(&format!("{number}")));
    }
    assert_eq!(machine.audited.len(), AUDITED_MAX);
    assert_eq!(machine.audited.first_key_value().map(|(index, _)| *index), Some(4));
    assert_eq!(machine.state.audited.len(), AUDITED_MAX);
}
