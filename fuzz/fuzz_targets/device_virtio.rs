//! libFuzzer's way into `fuzz::device_virtio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::device_virtio(data));
