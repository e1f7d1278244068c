//! Tests against bytes that other programs made.

#[cfg(test)]
mod golden;
