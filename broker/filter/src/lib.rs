//! Tag and SQL92 filters.
#![forbid(unsafe_code)]
