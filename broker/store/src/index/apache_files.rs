//! Makes index files as Apache's broker keeps them, for an export: entries in order, slots in memory until a file is
//! whole.

use std::io::{self, IoSlice};

use rocket_mapped_file::{Directory, SegmentOptions};

use super::apache::{ENTRY, Entry, FOLDER, HEADER_BYTES, Header, Sizes};

/// Bytes of entries that one write gathers.
const OUT_MAX: usize = 1 << 20;

/// See the module.
pub(crate) struct ApacheWriter<'a> {
    dir: &'a dyn Directory,
    sizes: Sizes,
    /// Number of the newest entry of each slot.
    slots: Vec<i32>,
    header: Header,
    /// Entries not yet written; the first one has number `first`.
    out: Vec<u8>,
    first: u64,
    file: Option<std::sync::Arc<dyn rocket_mapped_file::Segment>>,
    last_path: String,
    /// Files made.
    pub(crate) files: u64,
}

impl<'a> ApacheWriter<'a> {
    pub(crate) fn new(dir: &'a dyn Directory, sizes: Sizes) -> io::Result<Self> {
        dir.create_folder(FOLDER)?;
        Ok(Self {
            dir,
            sizes,
            slots: Vec::new(),
            header: Header::default(),
            out: Vec::new(),
            first: 1,
            file: None,
            last_path: String::new(),
            files: 0,
        })
    }

    /// Adds a key of a message; messages come in the order of the log.
    pub(crate) fn add(&mut self, hash: i32, physical_offset: u64, time: i64) -> io::Result<()> {
        if i64::from(self.header.next_entry) >= i64::from(self.sizes.entries) {
            self.finish()?;
        }
        let physical_offset = i64::try_from(physical_offset).unwrap_or(i64::MAX);
        if self.file.is_none() {
            self.begin(physical_offset, time)?;
        }
        let header = &mut self.header;
        let number = header.next_entry;
        let slot = usize::try_from(self.sizes.slot_of(hash)).unwrap_or(0);
        let before = match self.slots.get_mut(slot) {
            Some(place) => std::mem::replace(place, number),
            None => 0,
        };
        let seconds = (time - header.begin_timestamp).max(0) / 1000;
        header.used_slots += i32::from(before == 0);
        header.next_entry += 1;
        header.end_timestamp = time;
        header.end_offset = physical_offset;
        let entry = Entry {
            hash,
            physical_offset,
            seconds: i32::try_from(seconds).unwrap_or(i32::MAX),
            before,
        };
        entry.encode(&mut self.out);
        if self.out.len() >= OUT_MAX {
            self.write_out()?;
        }
        Ok(())
    }

    fn begin(&mut self, begin_offset: i64, begin_timestamp: i64) -> io::Result<()> {
        let mut name = begin_timestamp;
        let path = loop {
            let path = format!("{FOLDER}/{}", file_name(name));
            if self.last_path < path {
                break path;
            }
            name += 1;
        };
        let len = self.sizes.file_bytes();
        self.file = Some(self.dir.create(&path, len, SegmentOptions::default())?);
        self.last_path = path;
        self.slots.clear();
        self.slots.resize(self.sizes.slots as usize, 0);
        self.first = 1;
        self.header = Header {
            begin_timestamp,
            begin_offset,
            next_entry: 1,
            ..Header::default()
        };
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.write_at(self.sizes.entry_at(self.first), &[IoSlice::new(&self.out)])?;
        }
        self.first += (self.out.len() / ENTRY) as u64;
        self.out.clear();
        Ok(())
    }

    /// Ends the file that was begun, if one was; flushed on return.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.write_out()?;
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let slots: Vec<u8> = self.slots.iter().flat_map(|n| n.to_be_bytes()).collect();
        file.write_at(HEADER_BYTES, &[IoSlice::new(&slots)])?;
        file.write_at(0, &[IoSlice::new(&self.header.encode())])?;
        file.flush(0)?;
        self.header = Header::default();
        self.files += 1;
        Ok(())
    }
}

/// `yyyyMMddHHmmssSSS` in UTC; Apache's broker uses local time, and both only sort by it.
fn file_name(timestamp: i64) -> String {
    let days = timestamp.div_euclid(86_400_000);
    let millis = timestamp.rem_euclid(86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
    format!(
        "{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}{:03}",
        millis % 1000
    )
}

/// The date of a day counted from 1970-01-01, in the proleptic Gregorian calendar (years of 365.2425 days that begin in
/// March, so that the leap day is the last of its year).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_dates() {
        assert_eq!(file_name(0), "19700101000000000");
        assert_eq!(file_name(1_709_164_799_999), "20240228235959999");
        assert_eq!(file_name(1_709_164_800_000), "20240229000000000");
    }
}
