//! libFuzzer's way into `fuzz::program`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::program(data));
