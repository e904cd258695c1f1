//! Who listens: the Rust client of Revolve. A [`Client`] asks and declares, a [`Subscriber`] follows the revocation
//! feed without losing its place, and a [`RevocationSet`] answers locally which versions are no longer valid.
//! It refuses to send a token in plain text over a network, and to go on over a gap in the feed.
//!
//! ```no_run
//! # async fn follow() -> Result<(), client::Error> {
//! use client::{Client, Options, ReceiptStage, RevocationSet, SubscribeOptions, Update};
//!
//! let options = Options::new(["http://127.0.0.1:7800"]).token("rvlt_…".into());
//! let client = Client::connect(options)?;
//! let mut feed = client.subscribe(SubscribeOptions::default());
//! let mut revoked = RevocationSet::new();
//! loop {
//!     let update = feed.next().await?;
//!     revoked.observe(&update);
//!     if let Update::Event(event) = &update {
//!         // Act by it, then say so.
//!         feed.acknowledge(ReceiptStage::Enforced, [event.revision..=event.revision]).await?;
//!     }
//! }
//! # }
//! ```

mod admin;
mod connection;
mod error;
mod health;
mod options;
mod revocation_set;
mod subscriber;

pub use api::v1;
pub use api::v1::ReceiptStage;
pub use connection::Client;
pub use error::{CertificateProblem, Error, Refused};
pub use health::Probe;
pub use options::{ClientCertificate, Options, OptionsError};
pub use revocation_set::{RevocationSet, Standing};
pub use subscriber::{Progress, SubscribeOptions, Subscriber, Update};
