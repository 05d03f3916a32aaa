//! What the fuzz targets check, over the corpus in the repository, with the stable compiler: a finding that was fixed stays
//! fixed, and the targets stay alive. `scripts/fuzz.sh` looks for new inputs.

#[path = "../fuzz/src/document.rs"]
mod document;
#[path = "../fuzz/src/event.rs"]
mod event;
#[path = "../fuzz/src/frame_guard.rs"]
mod frame_guard;
#[path = "../fuzz/src/peer_frames.rs"]
mod peer_frames;
#[path = "../fuzz/src/template.rs"]
mod template;

use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display())) {
        let path = entry.expect("the folder is read").path();
        let input = std::fs::read(&path).expect("an input is read");
        // Names the input that fails.
        if let Err(panic) = std::panic::catch_unwind(|| check(&input)) {
            eprintln!("input: {}", path.display());
            std::panic::resume_unwind(panic);
        }
        inputs += 1;
    }
    println!("{target}: {inputs} inputs");
    assert!(inputs >= 10, "only {inputs} inputs in {}", folder.display());
}

#[test]
fn events() {
    replay("event", event::check);
}

#[test]
fn templates() {
    replay("template", template::check);
}

#[test]
fn documents() {
    replay("document", document::check);
}

#[test]
fn frames() {
    replay("frame_guard", frame_guard::check);
}

#[test]
fn frames_of_peers() {
    replay("peer_frames", peer_frames::check);
}
