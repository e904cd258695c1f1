#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| model::fuzz::names(input));
