#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wsray_fuzz::run("route_geo", data));
