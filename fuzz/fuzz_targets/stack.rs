//! libFuzzer's way into `fuzz::stack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::stack(data));
