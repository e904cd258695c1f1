#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cluster::fuzz::notes(input));
