#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wsray_fuzz::run("browser_lines", data));
