//! What the nodes say in their log output.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing_subscriber::filter::LevelFilter;

/// What a node says of damage, or of having less than it promised.
const OF_DAMAGE: [&str; 4] = ["is damaged", "this node does not vote", "cannot be read", "cannot be used"];

static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// From now on, what is said is kept.
pub fn keep() {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(|| Writer)
        .init();
}

/// What was said before is not asked for any more.
pub fn forget() {
    said().clear();
}

/// Whether damage was spoken of.
pub fn speak_of_damage() -> bool {
    let said = said();
    let text = String::from_utf8_lossy(&said);
    OF_DAMAGE.iter().any(|words| text.contains(words))
}

fn said() -> MutexGuard<'static, Vec<u8>> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        said().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
