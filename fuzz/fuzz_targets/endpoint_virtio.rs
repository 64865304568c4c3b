//! libFuzzer's way into `fuzz::endpoint_virtio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::endpoint_virtio(data));
