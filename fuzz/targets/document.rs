//! cargo-fuzz's entry to `src/document.rs`.
#![no_main]

#[path = "../src/document.rs"]
mod document;

libfuzzer_sys::fuzz_target!(|data: &[u8]| document::check(data));
