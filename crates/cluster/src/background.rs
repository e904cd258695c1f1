//! Work that nobody waits for stands back behind what calls wait for: on a machine with few cores the state's writer
//! and the maker of snapshots would otherwise take turns with the log.

use std::{io, thread};

use rustix::{process::setpriority_process, thread::gettid};
use tokio::sync::oneshot;

/// How nice a thread in the background is: of a core that another thread wants whole it gets about a quarter.
const NICE: i32 = 5;

/// Runs long work on a thread of its own that stands back.
pub(crate) async fn in_background<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, wait) = oneshot::channel();
    thread::Builder::new().name(name.into()).spawn(move || {
        stand_back();
        // Whoever asked may have gone.
        drop(done.send(work()));
    })?;
    wait.await.map_err(|_| io::Error::other("the thread has ended without an answer"))?
}

/// Lets the calling thread stand back, for good: an unprivileged process may not take that back. Linux keeps the
/// priority of each thread apart, under its own id.
pub(crate) fn stand_back() {
    if let Err(error) = setpriority_process(Some(gettid()), NICE) {
        tracing::debug!(%error, "a thread in the background keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn long_work_gives_its_result_or_says_that_it_broke_off() {
        assert_eq!(in_background("test", || Ok(7)).await.unwrap(), 7);
        let broken = in_background("test", || -> io::Result<()> { panic!("on purpose") }).await;
        assert!(broken.is_err());
    }

    #[test]
    fn a_thread_stands_back_and_the_others_do_not() {
        let before = getpriority_process(Some(gettid())).unwrap();
        let background = std::thread::spawn(|| {
            stand_back();
            getpriority_process(Some(gettid())).unwrap()
        });
        assert_eq!(background.join().unwrap(), before.max(NICE));
        assert_eq!(getpriority_process(Some(gettid())).unwrap(), before);
    }
}
