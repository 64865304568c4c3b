//! libFuzzer's way into `fuzz::pools`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pools(data));
