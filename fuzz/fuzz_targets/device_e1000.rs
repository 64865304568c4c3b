//! libFuzzer's way into `fuzz::device_e1000`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::device_e1000(data));
