//! Makes the next log file before it is needed, on a thread of its own: nobody who sends waits for it, and nobody who
//! keeps house.
//!
//! With zeros written ahead a flush is a write and nothing else; in a file that is only reserved it commits the file
//! system's journal as well (`docs/storage.md`). Only a file that nothing is written to yet is filled: zeros within the
//! one in use would be flushed with the messages. So that it disturbs little it goes slowly; so that it is done in time
//! it goes faster when the log does; and when the appender needs the file at once it gets it with the rest reserved.
//!
//! What is made, when, and how fast is decided by functions of positions and times ([`Situation::wanted`],
//! [`Course::pause`]); the rest of this module asks for those and acts.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rocket_mapped_file::{FILL_PIECE_BYTES, Pace};

use crate::api::Completion;
use crate::commit_log::FOLDER;
use crate::engine::Engine;
use crate::error::is_no_room;
use crate::room::Writer;

/// How long to wait while the disk is too full for another file.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The first file of a store is needed before it can be filled. So much of it is filled while the store opens,
const FIRST_MIN: u64 = 64 << 20;
/// and up to so much
const FIRST_MAX: u64 = 256 << 20;
/// as long as it takes no longer than this.
const FIRST_TIME: Duration = Duration::from_millis(500);

/// How the making of a store's first file goes on, when `filled` bytes of it have been filled in `took`.
pub(crate) fn first_pace(filled: u64, took: Duration) -> Pace {
    let is_enough = filled >= FIRST_MAX || filled >= FIRST_MIN && took >= FIRST_TIME;
    if is_enough { Pace::Enough } else { Pace::GoOn }
}

/// What decides whether another file is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// End of the log.
    pub(crate) end: u64,
    /// End of the file that it ends in.
    pub(crate) file_end: u64,
    /// Size of new files.
    pub(crate) segment_bytes: u64,
    /// There was no room for a file when it was needed.
    pub(crate) had_no_room: bool,
    /// Nothing more may be taken from the disk.
    pub(crate) is_refused: bool,
}

impl Situation {
    /// Begin of the file that should be there by now.
    pub(crate) fn wanted(&self) -> Option<u64> {
        let is_half_full = self.file_end.saturating_sub(self.end) <= self.segment_bytes / 2;
        (!self.is_refused && (self.had_no_room || is_half_full)).then_some(self.file_end)
    }
}

/// The making of one file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// Bytes a second, unless more are needed.
    pub(crate) rate: u64,
    /// Size of the new file.
    pub(crate) len: u64,
    /// The new file is needed when the log ends here.
    pub(crate) needed_at: u64,
    /// When it was begun.
    pub(crate) begun: Duration,
    /// The log ended here then.
    pub(crate) end: u64,
}

impl Course {
    /// How long to wait before the next piece, which will take about as long as the last one `took`, at time `now`, when
    /// `filled` bytes have been filled and the log ends at `end`.
    pub(crate) fn pause(&self, now: Duration, end: u64, filled: u64, took: Duration) -> Duration {
        let rate = self.rate.max(self.rate_needed(now, end, filled)).max(1);
        let piece = u128::from(FILL_PIECE_BYTES) * 1_000_000_000 / u128::from(rate);
        Duration::from_nanos(u64::try_from(piece).unwrap_or(u64::MAX)).saturating_sub(took)
    }

    /// Bytes a second with which the file is done in half of the time that is left as the log goes.
    fn rate_needed(&self, now: Duration, end: u64, filled: u64) -> u64 {
        let appended = u128::from(end.saturating_sub(self.end));
        let took = now.saturating_sub(self.begun).as_nanos();
        let left = u128::from(self.needed_at.saturating_sub(end));
        let to_fill = u128::from(self.len.saturating_sub(filled));
        if appended == 0 || took == 0 {
            return 0;
        }
        let per_second = to_fill
            .saturating_mul(appended)
            .saturating_mul(2_000_000_000)
            .checked_div(took.saturating_mul(left));
        per_second.map_or(u64::MAX, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// Between those who need a file now and the one who makes it ahead.
#[derive(Default)]
pub(crate) struct Haste {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many wait for a file.
    waiting: usize,
    is_over: bool,
}

impl Haste {
    /// Someone needs a file, until the result is dropped.
    pub(crate) fn need(&self) -> Need<'_> {
        self.state.lock().waiting += 1;
        self.changed.notify_all();
        Need(self)
    }

    /// Nothing is to be made ahead any more.
    pub(crate) fn end(&self) {
        self.state.lock().is_over = true;
        self.changed.notify_all();
    }

    /// How to go on, after `time` unless that is known before.
    fn wait(&self, time: Duration) -> Pace {
        let mut state = self.state.lock();
        if !time.is_zero() {
            let is_calm = |state: &mut State| state.waiting == 0 && !state.is_over;
            let _timed_out = self.changed.wait_while_for(&mut state, is_calm, time);
        }
        match (state.waiting, state.is_over) {
            (0, false) => Pace::GoOn,
            (0, true) => Pace::GiveUp,
            _ => Pace::Enough,
        }
    }
}

/// See [`Haste::need`].
pub(crate) struct Need<'a>(&'a Haste);

impl Drop for Need<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

impl<C: Completion> Engine<C> {
    /// Makes the next log file ahead when the current one is half full, or when there was no room for it before. Returns
    /// when it is there, or cannot be, or is not wanted any more.
    pub fn prepare_step(&self) {
        let had_no_room = self.no_room.is_for(Writer::Log);
        let situation = {
            let appender = self.appender.lock();
            Situation {
                end: appender.end(),
                file_end: appender.file_end(),
                segment_bytes: self.config.segment_bytes,
                had_no_room,
                is_refused: self.disk.read().refused,
            }
        };
        let Some(start) = situation.wanted() else {
            return;
        };
        if self.has_failed() {
            return;
        }
        let course = Course {
            rate: self.config.prepare_bytes_per_second,
            len: self.config.segment_bytes,
            needed_at: situation.file_end,
            begun: self.clock.elapsed(),
            end: situation.end,
        };
        let mut went_on = course.begun;
        let mut pace = |filled| {
            let pace = self.pace(&course, filled, went_on);
            went_on = self.clock.elapsed();
            pace
        };
        let may_make = || self.may_make_file();
        let made = self.log.make_ahead(start, &may_make, &mut pace);
        match made.and_then(|file| file.segment.ready_to_write()) {
            Ok(()) => {
                self.no_room.clear(Writer::Log);
                self.no_room_ahead.store(false, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_no_room(&error) => {
                if !self.no_room_ahead.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the next log file cannot be made ahead; will be tried again");
                }
            }
            Err(error) => self.fail(FOLDER, &error),
        }
    }

    /// The store stops: what is being made ahead is given up.
    pub fn stop_preparing(&self) {
        self.log.haste().end();
    }

    /// Waits as long as the making of a file should, of which `filled` bytes are filled, and that went on at `went_on`.
    /// Must not take the appender's lock: whoever waits for the file holds it.
    fn pace(&self, course: &Course, filled: u64, went_on: Duration) -> Pace {
        let now = self.clock.elapsed();
        let end = self.progress.lock().local().appended.0;
        let pause = match filled {
            0 => Duration::ZERO,
            filled => course.pause(now, end, filled, now.saturating_sub(went_on)),
        };
        let mut pace = self.log.haste().wait(pause);
        while pace == Pace::GoOn && self.disk.read().refused {
            pace = self.log.haste().wait(LOOK_AGAIN);
        }
        if self.has_failed() {
            Pace::GiveUp
        } else {
            pace
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use rocket_mapped_file::memory::MemoryDirectory;
    use rocket_mapped_file::{Fill, SegmentOptions};

    use super::*;
    use crate::commit_log::CommitLog;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn the_next_file_is_wanted_when_the_current_one_is_half_full_or_room_was_missing() {
        let wanted = |end, had_no_room, is_refused| {
            Situation {
                end,
                file_end: 5 * GIB,
                segment_bytes: GIB,
                had_no_room,
                is_refused,
            }
            .wanted()
        };
        assert_eq!(wanted(4 * GIB + GIB / 2 - 1, false, false), None);
        assert_eq!(wanted(4 * GIB + GIB / 2, false, false), Some(5 * GIB));
        assert_eq!(wanted(4 * GIB, true, false), Some(5 * GIB));
        for had_no_room in [false, true] {
            assert_eq!(
                wanted(5 * GIB, had_no_room, true),
                None,
                "not on a full disk"
            );
        }
    }

    fn course() -> Course {
        Course {
            rate: 256 * MIB,
            len: GIB,
            needed_at: GIB,
            begun: Duration::from_secs(100),
            end: GIB / 2,
        }
    }

    #[test]
    fn filling_keeps_its_rate_while_the_log_is_slow() {
        let course = course();
        let pause = |end, took| {
            let now = course.begun + Duration::from_secs(1);
            course.pause(now, end, 200 * MIB, Duration::from_micros(took))
        };
        let quarter = Duration::from_nanos(1_000_000_000 / 256);
        assert_eq!(pause(GIB / 2, 0), quarter, "nothing comes");
        assert_eq!(pause(GIB / 2 + MIB, 0), quarter, "512 s are left");
        assert_eq!(
            pause(GIB / 2, 1000),
            quarter.saturating_sub(Duration::from_millis(1)),
            "what the piece took counts"
        );
        assert_eq!(pause(GIB / 2, 9000), Duration::ZERO);
    }

    #[test]
    fn filling_becomes_quicker_when_the_log_does_and_is_done_in_half_the_time_that_is_left() {
        let course = course();
        let now = course.begun + Duration::from_secs(1);
        // 256 MiB in a second, 256 MiB left: a second. 512 MiB are to be filled in half of that.
        assert_eq!(course.rate_needed(now, GIB - 256 * MIB, GIB / 2), GIB);
        let pause = course.pause(now, GIB - 256 * MIB, GIB / 2, Duration::ZERO);
        assert_eq!(pause, Duration::from_nanos(1_000_000_000 / 1024));
        assert_eq!(
            course.pause(now, GIB, GIB / 2, Duration::ZERO),
            Duration::ZERO,
            "it is needed now"
        );
        assert_eq!(course.rate_needed(now, GIB - 256 * MIB, GIB), 0, "done");
    }

    #[test]
    fn the_first_file_is_filled_as_far_as_opening_may_take() {
        let slow = Duration::from_secs(9);
        assert_eq!(first_pace(FIRST_MIN - 1, slow), Pace::GoOn);
        assert_eq!(first_pace(FIRST_MIN, slow), Pace::Enough);
        assert_eq!(first_pace(FIRST_MAX - 1, Duration::ZERO), Pace::GoOn);
        assert_eq!(first_pace(FIRST_MAX, Duration::ZERO), Pace::Enough);
    }

    #[test]
    fn who_needs_a_file_that_is_being_made_gets_it_at_once() {
        let options = SegmentOptions {
            fill: Fill::Zeros,
            lanes: 1,
        };
        let dir = MemoryDirectory::default();
        let log =
            CommitLog::open(Arc::new(dir), 4 * FILL_PIECE_BYTES, options, 4096, None).unwrap();
        let (begun, told) = channel();
        std::thread::scope(|scope| {
            let making = scope.spawn(|| {
                log.make_ahead(0, &|| Ok(()), &mut |filled| {
                    begun.send(filled).unwrap();
                    let is_first = filled == 0;
                    let long = Duration::from_hours(1);
                    log.haste()
                        .wait(if is_first { Duration::ZERO } else { long })
                })
            });
            assert_eq!(
                [told.recv().unwrap(), told.recv().unwrap()],
                [0, FILL_PIECE_BYTES]
            );
            let never = || Err(io::ErrorKind::StorageFull.into());
            let file = log.ensure(0, &never).unwrap();
            assert!(Arc::ptr_eq(&file, &making.join().unwrap().unwrap()));
        });
        assert!(told.try_recv().is_err(), "it was not filled any further");
    }

    #[test]
    fn who_needs_a_file_ends_the_wait_of_who_makes_it() {
        let haste = Haste::default();
        let long = Duration::from_hours(1);
        assert_eq!(haste.wait(Duration::ZERO), Pace::GoOn);
        let paces = std::thread::scope(|scope| {
            let maker = scope.spawn(|| haste.wait(long));
            let need = haste.need();
            let first = maker.join().unwrap();
            drop(need);
            let maker = scope.spawn(|| haste.wait(long));
            haste.end();
            [first, maker.join().unwrap()]
        });
        assert_eq!(paces, [Pace::Enough, Pace::GiveUp]);
        let _need = haste.need();
        assert_eq!(haste.wait(long), Pace::Enough, "also when the store stops");
    }
}
