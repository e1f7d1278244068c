//! What happened, one line each, for people. Kept only when somebody wants to read it.

use std::fmt::{self, Write as _};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    text: Option<String>,
    step: u32,
}

impl Trace {
    /// `wanted`: keep the text.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            text: wanted.then(String::new),
            step: 0,
        }
    }

    /// The next step begins.
    pub(crate) fn turn(&mut self) {
        self.step += 1;
    }

    /// Whether lines are kept: making one may cost more than the step that it tells of.
    pub(crate) fn is_kept(&self) -> bool {
        self.text.is_some()
    }

    /// One line.
    pub(crate) fn say(&mut self, line: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "{:>5} {line}", self.step);
        }
    }

    /// All lines.
    pub(crate) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}
