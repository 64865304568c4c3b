//! libFuzzer's way into `fuzz::byte_ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::byte_ring(data));
