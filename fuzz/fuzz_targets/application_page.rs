//! libFuzzer's way into `fuzz::application_page`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::application_page(data));
