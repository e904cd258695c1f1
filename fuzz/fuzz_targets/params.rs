#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| workers::fuzz::params(input));
