//! libFuzzer's way into `fuzz::item_ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::item_ring(data));
