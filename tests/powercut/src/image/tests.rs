//! The promises of a sync, and what is none.

use super::*;

fn written(byte: u8, image: &mut Image, sector: u64) {
    image.write(sector * SECTOR, &[byte; SECTOR_BYTES], 1);
}

fn byte(image: &Image, sector: u64) -> u8 {
    image.read(sector * SECTOR, 1).first().copied().unwrap_or(0)
}

/// What sector 0 holds after cuts by many seeds.
fn outcomes(image: &Image, sector: u64) -> BTreeSet<u8> {
    (0..200)
        .map(|seed| byte(&image.after_cut(&mut Dice::new(seed)), sector))
        .collect()
}

#[test]
fn what_a_sync_brought_over_survives_every_cut_and_what_came_later_some() {
    let mut image = Image::default();
    written(1, &mut image, 0);
    image.sync_begin(1);
    image.sync_end(1);
    assert_eq!(outcomes(&image, 0), [1].into());
    written(2, &mut image, 0);
    assert_eq!(byte(&image, 0), 2);
    assert_eq!(outcomes(&image, 0), [1, 2].into());
}

#[test]
fn a_sync_that_has_not_ended_promises_nothing() {
    let mut image = Image::default();
    written(1, &mut image, 0);
    image.sync_begin(1);
    assert_eq!(outcomes(&image, 0), [0, 1].into());
}

#[test]
fn what_is_written_while_a_sync_runs_is_not_covered_by_it() {
    let mut image = Image::default();
    written(1, &mut image, 0);
    image.sync_begin(1);
    written(2, &mut image, 0);
    written(3, &mut image, 1);
    image.sync_end(1);
    assert_eq!(outcomes(&image, 0), [1, 2].into());
    assert_eq!(outcomes(&image, 1), [0, 3].into());
}

#[test]
fn a_sync_that_ends_late_does_not_bring_old_bytes_back() {
    let mut image = Image::default();
    written(1, &mut image, 0);
    image.sync_begin(1);
    written(2, &mut image, 0);
    image.sync_begin(2);
    image.sync_end(2);
    image.sync_end(1);
    assert_eq!(outcomes(&image, 0), [2].into());
}

#[test]
fn a_second_sync_covers_what_the_first_has_on_its_way() {
    let mut image = Image::default();
    written(1, &mut image, 0);
    image.sync_begin(1);
    image.sync_begin(2);
    image.sync_end(2);
    assert_eq!(outcomes(&image, 0), [1].into());
}

#[test]
fn after_a_failed_sync_a_good_one_does_not_bring_the_bytes() {
    let lost = (0..200).any(|seed| {
        let mut image = Image::default();
        written(1, &mut image, 0);
        image.sync_begin(1);
        image.sync_fail(1, &mut Dice::new(seed));
        image.sync_begin(2);
        image.sync_end(2);
        outcomes(&image, 0) == [0].into()
    });
    assert!(lost);
}

#[test]
fn the_oldest_unsynced_write_is_known() {
    let mut image = Image::default();
    image.write(0, b"a", 10);
    image.sync_begin(1);
    image.write(0, b"b", 20);
    assert_eq!(image.unsynced_since_us(), Some(10));
    image.sync_end(1);
    assert_eq!(image.unsynced_since_us(), Some(20));
    image.sync_begin(2);
    image.sync_end(2);
    assert_eq!(image.unsynced_since_us(), None);
}

#[test]
fn zeroed_bytes_are_lost_bytes_until_they_are_synced() {
    let mut image = Image::default();
    written(7, &mut image, 0);
    image.sync_begin(1);
    image.sync_end(1);
    image.zero(0, SECTOR, 5);
    assert_eq!(byte(&image, 0), 0);
    assert_eq!(outcomes(&image, 0), [0, 7].into());
}

#[test]
fn a_file_that_is_cut_and_grown_shows_zeros() {
    let mut image = Image::default();
    written(7, &mut image, 0);
    image.sync_begin(1);
    image.sync_end(1);
    image.set_len(0, 5);
    image.set_len(SECTOR, 5);
    assert_eq!(byte(&image, 0), 0);
}

#[test]
fn reserved_room_is_taken_once() {
    let mut image = Image::default();
    image.reserve(3 * PAGE);
    assert_eq!((image.pages(), image.len()), (3, 3 * PAGE));
    assert_eq!(image.pages_missing(0, PAGE), 0);
    assert_eq!(image.pages_missing(3 * PAGE, 1), 1);
}
