#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| server::fuzz::consumer_file(input));
