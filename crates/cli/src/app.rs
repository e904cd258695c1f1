//! What every command is given: settings, a client on demand, and the output.

use std::{
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use client::{Client, Options};
use model::time::Time;

use crate::{exit::Failure, output::Output, settings::Settings};

/// What to tell someone who presses Ctrl-C: how to go on watching.
static RESUME: Mutex<Option<String>> = Mutex::new(None);

/// What every command is given.
pub struct App {
    /// Where the settings of this call come from.
    pub settings: Settings,
    /// Where data goes.
    pub output: Output,
}

impl App {
    /// A client for the addresses and token of the settings.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect(self.options(&self.settings.addresses)?)?)
    }

    /// The same settings for other addresses.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn options(&self, addresses: &[String]) -> Result<Options, Failure> {
        let settings = &self.settings;
        Ok(Options {
            token: settings.token()?,
            ca: settings.ca()?,
            certificate: settings.client_certificate()?,
            timeout: settings.timeout,
            insecure_plaintext: settings.insecure_plaintext,
            ..Options::new(addresses.iter().cloned())
        })
    }
}

/// The clock of this machine; only for display.
pub fn now() -> Time {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Sets what an interrupted command says about how to go on.
pub fn on_interrupt_say(resume: Option<String>) {
    *RESUME.lock().unwrap_or_else(PoisonError::into_inner) = resume;
}

/// What an interrupted command says.
pub fn resume() -> Option<String> {
    RESUME.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
