//! cargo-fuzz's entry to `src/peer_frames.rs`.
#![no_main]

#[path = "../src/peer_frames.rs"]
mod peer_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| peer_frames::check(data));
