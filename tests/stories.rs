//! The stories: each file under stories/ is one promise of the product, shown with real processes and real
//! servers. Run them with `cargo xtask test`, which finds what they need.
#![expect(clippy::unwrap_used, reason = "in the functions that tests share, as in the tests themselves")]

mod stories {
    mod break_glass;
    mod clocks;
    mod crash;
    mod deploy;
    mod disk_faults;
    mod drain;
    mod harness;
    mod linearizable;
    mod lost_reply;
    mod mixed_versions;
    mod no_leaks;
    mod on_time;
    mod operate;
    mod operate_docs;
    mod power_loss;
    mod provider_postgres;
    mod readme;
    mod revocation;
    mod stage;
    mod store_aws;
    mod target_down;
    mod volatile;
}
