//! The program as a person or a pod runs it.

mod process;
mod registration;
