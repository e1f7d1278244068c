//! Segments written by pwritev and read through maps.
