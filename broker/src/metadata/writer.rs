//! Changes of a table that go to the disk together: whoever comes while a file is being written and synced waits, and one
//! of those who waited writes for all of them. So a thousand clients that come at once cost a few syncs.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::file::FileError;

/// Changes a table; says whether it did.
type Change<T> = Box<dyn FnOnce(&mut T) -> bool + Send>;
/// How the change of one who waits went.
type Done = Arc<OnceLock<Result<(), Arc<FileError>>>>;

/// See the module.
pub(super) struct Writer<T> {
    waiting: Mutex<Vec<(Change<T>, Done)>>,
    writing: Mutex<()>,
}

impl<T> Default for Writer<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            writing: Mutex::default(),
        }
    }
}

impl<T> std::fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<T> Writer<T> {
    /// Has `change` applied and written, alone or with others, and waits for that. `write` is given all that are to be
    /// applied, in the order in which they came.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut T) -> bool + Send + 'static,
        write: impl FnOnce(Vec<Change<T>>) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let done = Done::default();
        self.waiting
            .lock()
            .push((Box::new(change), Arc::clone(&done)));
        let _writing = self.writing.lock();
        if done.get().is_none() {
            let (changes, all): (Vec<_>, Vec<_>) = std::mem::take(&mut *self.waiting.lock())
                .into_iter()
                .unzip();
            let written = write(changes).map_err(Arc::new);
            for done in all {
                // Set once: it was taken out of the list.
                let _ = done.set(written.clone());
            }
        }
        match done.get() {
            Some(Err(error)) => Err(FileError::Together(Arc::clone(error))),
            _ => Ok(()),
        }
    }
}

/// Applies all; says whether one of them changed something.
pub(super) fn apply<T>(changes: Vec<Change<T>>, table: &mut T) -> bool {
    let mut changed = false;
    for change in changes {
        changed |= change(table);
    }
    changed
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn those_who_come_while_one_is_written_are_written_together() {
        let writer = Writer::<Vec<usize>>::default();
        let table = Mutex::new(Vec::new());
        let writes = AtomicUsize::new(0);
        let (begun, go_on) = (Barrier::new(2), Barrier::new(2));
        let put = |number: usize| {
            let change = move |table: &mut Vec<usize>| {
                table.push(number);
                true
            };
            writer.change(change, |changes| {
                if writes.fetch_add(1, Ordering::SeqCst) == 0 {
                    begun.wait();
                    go_on.wait();
                }
                assert!(apply(changes, &mut table.lock()));
                Ok(())
            })
        };
        std::thread::scope(|scope| {
            scope.spawn(|| put(0).unwrap());
            begun.wait();
            for number in 1..20 {
                scope.spawn(move || put(number).unwrap());
            }
            while writer.waiting.lock().len() < 19 {
                std::thread::yield_now();
            }
            go_on.wait();
        });
        let mut all = table.into_inner();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        assert_eq!(writes.into_inner(), 2);
    }

    #[test]
    fn a_write_that_fails_is_told_to_all_who_waited_for_it() {
        let writer = Writer::<()>::default();
        let error = || FileError::Io {
            action: "write",
            path: "x".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        let failed = writer.change(|()| true, |_| Err(error()));
        assert!(matches!(failed, Err(FileError::Together(_))));
        assert!(writer.change(|()| true, |_| Ok(())).is_ok());
    }
}
