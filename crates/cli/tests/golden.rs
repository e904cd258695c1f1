//! What the command line prints, against golden files. `TRYCMD=overwrite cargo test -p cli --test golden` renews them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

#[test]
fn the_command_line_prints_what_the_golden_files_say() {
    // Git keeps no such modes, so they are set here.
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd/inputs");
    fs::set_permissions(inputs.join("open-secret"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(inputs.join("closed-secret"), fs::Permissions::from_mode(0o600)).unwrap();

    let cases = trycmd::TestCases::new();
    let unset = ["REVOLVE_TOKEN", "REVOLVE_TOKEN_FILE", "REVOLVE_CACERT", "REVOLVE_OUTPUT", "REVOLVE_LOG"];
    for unset in unset.into_iter().chain(["REVOLVE_LOG_FORMAT"]) {
        cases.env(unset, "");
    }
    for unset in ["REVOLVE_CLIENT_CERT", "REVOLVE_CLIENT_KEY"] {
        cases.env(unset, "");
    }
    cases
        .env("HOME", "/nonexistent")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("REVOLVE_TIMEOUT", "5s")
        // A port that nothing may listen on.
        .env("REVOLVE_ADDR", "http://127.0.0.1:1")
        .case("tests/cmd/*.trycmd");
}
