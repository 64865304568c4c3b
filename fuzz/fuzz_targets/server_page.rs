//! libFuzzer's way into `fuzz::server_page`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::server_page(data));
