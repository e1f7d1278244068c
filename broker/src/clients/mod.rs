//! Tables.
pub mod consumers;
pub mod locks;
pub mod producers;
#[cfg(test)]
mod tests;
