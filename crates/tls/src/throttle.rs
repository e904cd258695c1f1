//! Who is refused again and again is told of once in a while: whoever is kept out must not fill the logs.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often the same refusal is news.
const EVERY: Duration = Duration::from_secs(60);
/// Most refusals that are told apart; further ones wait until some are old.
const KINDS: usize = 1_024;

/// What was told lately.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<BTreeMap<(Option<IpAddr>, &'static str), Instant>>);

impl Throttle {
    /// Whether this was not told within the last minute; it is taken to be told now.
    pub fn is_news(&self, from: Option<IpAddr>, code: &'static str) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |at: &Instant| now.duration_since(*at) >= EVERY;
        if told.get(&(from, code)).is_some_and(|at| !is_old(at)) {
            return false;
        }
        if told.len() >= KINDS {
            told.retain(|_, at| !is_old(at));
        }
        let has_room = told.len() < KINDS;
        if has_room {
            told.insert((from, code), now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_and_a_flood_of_others_is_bounded() {
        let throttle = Throttle::default();
        let from = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        assert!(throttle.is_news(from(1), "tls_expired") && !throttle.is_news(from(1), "tls_expired"));
        assert!(throttle.is_news(from(1), "tls_revoked") && throttle.is_news(from(2), "tls_expired"));
        let told = (0..100_000).filter(|n| throttle.is_news(from(n + 10), "tls_expired")).count();
        assert_eq!(told, KINDS - 3);
    }
}
