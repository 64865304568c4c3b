//! libFuzzer's way into `fuzz::either_queue`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::either_queue(data));
