//! Secrets while they are held in memory: wiped when dropped, never printed.

use model::target::SecretPolicy;
use rand::distr::{Distribution, slice::Choose};
use secrecy::{ExposeSecret, SecretString};

/// A password, generated or opened.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

impl Password {
    /// Draws a password from the thread's cryptographic generator, every character of the alphabet with the same
    /// chance.
    #[must_use]
    pub fn generate(policy: &SecretPolicy) -> Self {
        let characters = policy.alphabet.characters().as_bytes();
        let draw = Choose::new(characters).expect("an alphabet has characters");
        let mut rng = rand::rng();
        // Filled to its capacity and never beyond: no copy is left behind by a reallocation.
        let mut text = String::with_capacity(usize::from(policy.length));
        text.extend((0..policy.length).map(|_| char::from(*draw.sample(&mut rng))));
        Self(text.into())
    }

    /// The text, for the one who hands it to a target or seals it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The secret text it wraps.
    #[must_use]
    pub const fn as_secret(&self) -> &SecretString {
        &self.0
    }
}

impl From<SecretString> for Password {
    fn from(secret: SecretString) -> Self {
        Self(secret)
    }
}

impl From<Password> for SecretString {
    fn from(password: Password) -> Self {
        password.0
    }
}

/// A user and its password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub username: String,
    /// Its password.
    pub password: Password,
}

impl Login {
    /// A login of `username` with `password`.
    pub fn new(username: impl Into<String>, password: impl Into<Password>) -> Self {
        Self { username: username.into(), password: password.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::target::Alphabet;

    use super::*;

    #[test]
    fn a_password_has_the_length_and_the_characters_of_its_policy() {
        for alphabet in [Alphabet::Alphanumeric, Alphabet::UrlSafe, Alphabet::Symbols] {
            for length in [16, 40, 256] {
                let password = Password::generate(&SecretPolicy { length, alphabet });
                assert_eq!(password.expose().len(), usize::from(length));
                assert!(password.expose().chars().all(|c| alphabet.characters().contains(c)));
            }
        }
    }

    #[test]
    fn every_character_is_drawn_about_equally_often() {
        const DRAWS: u32 = 400;
        let policy = SecretPolicy { length: 256, alphabet: Alphabet::Alphanumeric };
        let mut seen = BTreeMap::<char, u32>::new();
        for _ in 0..DRAWS {
            for c in Password::generate(&policy).expose().chars() {
                *seen.entry(c).or_default() += 1;
            }
        }
        let expected = f64::from(DRAWS * 256) / 62.0;
        assert_eq!(seen.len(), 62);
        // Chi-squared with 61 degrees of freedom: 130 is passed by chance less than once in a million runs.
        let distance: f64 = seen.values().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
        assert!(distance < 130.0, "{distance}");
    }

    #[test]
    fn no_two_passwords_are_alike_and_none_is_printed() {
        let policy = SecretPolicy::default();
        let (one, other) = (Password::generate(&policy), Password::generate(&policy));
        assert_ne!(one.expose(), other.expose());
        let printed = format!("{:?}", Login::new("app", one.clone()));
        assert!(printed.contains("app") && !printed.contains(one.expose()), "{printed}");
    }
}
