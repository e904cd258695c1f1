//! `cargo xtask fix`: the changes that a machine can make. Run it before `verify`.

use std::process::ExitCode;

use crate::cargo::{cargo, succeed};
use crate::steps::{Checked, Steps};

/// Applies the lint fixes, then formats what they left.
pub fn run() -> ExitCode {
    let mut steps = Steps::default();
    for (name, args) in [
        (
            "lints",
            &["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"][..],
        ),
        ("format", &["fmt", "--all"][..]),
    ] {
        steps.run(name, || succeed(cargo().args(args)).map(|()| Checked::Whole));
    }
    steps.close("fix")
}
