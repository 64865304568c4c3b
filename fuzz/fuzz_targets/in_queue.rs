//! libFuzzer's way into `fuzz::in_queue`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::in_queue(data));
