//! Linearizable reads, shared: however many wait for one, a single read is under way at a time, and each caller gets
//! the result of one that began after it asked.

use std::{sync::Arc, time::Instant};

use model::{State, time::Time};
use tokio::sync::Mutex;

use crate::consensus::{Consensus, Unagreed};

/// A state that was complete at an instant.
#[derive(Clone)]
pub(crate) struct Complete {
    /// Everything committed before this instant is in it.
    pub(crate) at: Time,
    pub(crate) state: Arc<State>,
}

/// The shared reads.
pub(crate) struct Fresh {
    consensus: Arc<dyn Consensus>,
    last: Mutex<Option<(Instant, Result<Complete, Unagreed>)>>,
}

impl Fresh {
    pub(crate) fn new(consensus: Arc<dyn Consensus>) -> Self {
        Self { consensus, last: Mutex::new(None) }
    }

    /// A state that holds everything committed before the call.
    pub(crate) async fn read(&self) -> Result<Complete, Unagreed> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((begun, result)) = &*last
            && *begun > asked
        {
            return result.clone();
        }
        let (begun, at) = (Instant::now(), self.consensus.now());
        let result = self.consensus.read().await.map(|state| Complete { at, state });
        *last = Some((begun, result.clone()));
        result
    }
}
