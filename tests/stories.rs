//! The stories: each file under stories/ is one promise of the product, shown with real processes and real
//! servers. Run them with `cargo xtask test`, which finds what they need.
#![expect(clippy::unwrap_used, reason = "in the functions that tests share, as in the tests themselves")]

mod stories {
    mod harness;
    mod provider_postgres;
    mod store_aws;
}
