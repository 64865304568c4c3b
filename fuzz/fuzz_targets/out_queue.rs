//! libFuzzer's way into `fuzz::out_queue`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::out_queue(data));
