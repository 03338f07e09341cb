//! Batches made ahead of their use, on a thread of their own.

use crate::error::Result;
use std::{
    panic::resume_unwind,
    sync::mpsc::{Receiver, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A batch from the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The batch.
    pub batch: T,
    /// The cursor that it was made at.
    pub cursor: u64,
    /// The cursor after it.
    pub next: u64,
}

/// Makes batches one after the other, a bounded number of them ahead.
///
/// The cursor belongs to the consumer: what was made ahead and not taken changes nothing, so a checkpoint
/// holds the `next` of the last batch taken.
#[derive(Debug)]
pub struct Loader<T> {
    batches: Option<Receiver<Result<Loaded<T>>>>,
    thread: Option<JoinHandle<()>>,
    waited: Duration,
}

impl<T: Send + 'static> Loader<T> {
    /// Starts at a cursor, `ahead` batches ahead (at least one). `make` gives the batch at a cursor and the
    /// cursor after it; `None` ends the batches, as does an error after it was handed out.
    ///
    /// # Errors
    /// Where the system has no thread for it.
    pub fn start(
        cursor: u64,
        ahead: usize,
        mut make: impl FnMut(u64) -> Result<Option<(T, u64)>> + Send + 'static,
    ) -> Result<Self> {
        // One batch is in the thread's hands while the channel is full.
        let (sender, batches) = sync_channel(ahead.saturating_sub(1));
        let thread = std::thread::Builder::new().name("msg-loader".into()).spawn(move || {
            let mut cursor = cursor;
            while let Some(made) = make(cursor).transpose() {
                let made = made.map(|(batch, next)| Loaded { batch, cursor, next });
                let next = made.as_ref().ok().map(|made| made.next);
                // A failed send means that the consumer is gone.
                match (sender.send(made), next) {
                    (Ok(()), Some(next)) => cursor = next,
                    _ => return,
                }
            }
        });
        let thread = thread.map_err(|source| crate::Error::Io { path: "loader thread".into(), source })?;
        Ok(Loader { batches: Some(batches), thread: Some(thread), waited: Duration::ZERO })
    }

    /// The next batch; `None` after the last one, or after an error.
    ///
    /// # Errors
    /// Those of making it.
    ///
    /// # Panics
    /// If making it panicked, with the same panic.
    pub fn next_batch(&mut self) -> Result<Option<Loaded<T>>> {
        let start = Instant::now();
        let received = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        self.waited += start.elapsed();
        if received.is_none()
            && let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            resume_unwind(panic);
        }
        received.transpose()
    }

    /// How long [`Loader::next_batch`] has waited so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        // A closed channel wakes a thread that waits for room in it.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // The batch was cancelled; ignore its panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn batches_come_in_order_and_end() {
        let make = |cursor| Ok((cursor < 40).then_some((cursor * 2, cursor + 10)));
        for ahead in [0, 1, 3, 100] {
            let mut loader = Loader::start(10, ahead, make).unwrap();
            let mut taken = Vec::new();
            while let Some(loaded) = loader.next_batch().unwrap() {
                taken.push((loaded.cursor, loaded.batch, loaded.next));
            }
            assert_eq!(taken, [(10, 20, 20), (20, 40, 30), (30, 60, 40)]);
            assert_eq!(loader.next_batch().unwrap(), None);
            assert!(loader.waited() > Duration::ZERO);
        }
    }

    #[test]
    fn an_error_is_handed_out_once_and_ends_the_batches() {
        let make = |cursor| match cursor {
            0 => Ok(Some((0, 1))),
            _ => Err(Error::Receipt("no".into())),
        };
        let mut loader = Loader::start(0, 4, make).unwrap();
        assert!(loader.next_batch().unwrap().is_some());
        assert_eq!(loader.next_batch().unwrap_err().to_string(), "no");
        assert_eq!(loader.next_batch().unwrap(), None);
    }

    #[test]
    fn dropping_a_loader_with_batches_left_ends_its_thread() {
        let mut loader = Loader::start(0, 2, |cursor| Ok(Some((vec![0; 1000], cursor + 1)))).unwrap();
        loader.next_batch().unwrap();
        drop(loader);
    }

    #[test]
    #[should_panic(expected = "a mistake")]
    fn a_panic_of_the_thread_is_the_consumers() {
        let mut loader = Loader::<()>::start(0, 2, |_| panic!("a mistake")).unwrap();
        let _ = loader.next_batch();
    }
}
