//! What `cargo xtask test` found or built for the tests, handed over in environment variables.

use std::path::PathBuf;

/// The folder with the PostgreSQL server programs.
///
/// # Panics
///
/// When the tests were not started by `cargo xtask test`; so do the other functions here.
#[must_use]
pub fn postgres_bin() -> PathBuf {
    required("REVOLVE_TEST_PG_BIN")
}

/// The Python that has moto and boto3.
#[must_use]
pub fn python() -> PathBuf {
    required("REVOLVE_TEST_PYTHON")
}

/// The `revolve` binary with crash points.
#[must_use]
pub fn revolve_bin() -> PathBuf {
    required("REVOLVE_BIN")
}

/// The library that keeps a journal of what a program does to a folder.
#[must_use]
pub fn volatile_layer() -> PathBuf {
    required("REVOLVE_TEST_VOLATILE")
}

/// The library that makes a program's wall clock jump.
#[must_use]
pub fn faketime() -> PathBuf {
    required("REVOLVE_TEST_FAKETIME")
}

/// Prometheus' own checker of figures and alerts.
#[must_use]
pub fn promtool() -> PathBuf {
    required("REVOLVE_TEST_PROMTOOL")
}

fn required(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => panic!(
            "`{variable}` is not set: run the tests with `cargo xtask test`, which finds or installs the servers \
             that they need"
        ),
    }
}
