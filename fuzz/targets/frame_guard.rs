//! cargo-fuzz's entry to `src/frame_guard.rs`.
#![no_main]

#[path = "../src/frame_guard.rs"]
mod frame_guard;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frame_guard::check(data));
