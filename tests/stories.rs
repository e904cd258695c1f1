//! The stories: each file under stories/ is one promise of the product, shown with real processes and real
//! servers. Run them with `cargo xtask test`, which finds what they need.
#![expect(clippy::unwrap_used, reason = "in the functions that tests share, as in the tests themselves")]

mod stories {
    mod break_glass;
    mod clocks;
    mod clocks_together;
    mod crash;
    mod daylight_saving;
    mod deploy;
    mod diagnose;
    mod disk_faults;
    mod drain;
    mod harness;
    mod keys;
    mod linearizable;
    mod lost_reply;
    mod members;
    mod mixed_versions;
    mod no_leaks;
    mod on_time;
    mod operate;
    mod operate_docs;
    mod power_loss;
    mod provider_postgres;
    mod readme;
    mod restore;
    mod restore_observes;
    mod revocation;
    mod rolling_restart;
    mod stage;
    mod store_aws;
    mod target_down;
    mod tls;
    mod volatile;
}
