//! What is wrong with a configuration, said so that a person can repair it without another look at the manual.

use std::fmt;
use std::path::PathBuf;

/// Where a key was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line (from 1) of a file.
    Line(PathBuf, usize),
    /// `--set` on the command line.
    Set,
    /// A flag of the command line, by its name.
    Flag(&'static str),
    /// A request of an administrator (UPDATE_BROKER_CONFIG).
    Request,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Set => f.write_str("--set"),
            Self::Flag(name) => f.write_str(name),
            Self::Request => f.write_str("request"),
        }
    }
}

/// One thing that is wrong. The operator must change the configuration; trying again changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be opened or is not text.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text does not follow its format.
    #[error("{place}: {why}")]
    Syntax {
        /// Where.
        place: Place,
        /// What was expected.
        why: String,
    },
    /// A key that neither RocketMQ nor this broker has.
    #[error("{place}: unknown key `{key}`{}", hint(*nearest))]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key as given.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A known key with a value that it cannot have.
    #[error("{place}: {key} = `{value}`: {why}")]
    BadValue {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// The value as given.
        value: String,
        /// What is allowed.
        why: String,
    },
    /// Keys that contradict each other.
    #[error("{why}")]
    Conflict {
        /// Which ones, and what would be right.
        why: String,
    },
    /// A key without effect here was to be changed.
    #[error("{place}: {key} has no effect: {why}")]
    NoEffect {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A key that needs a restart was to be changed while the broker runs.
    #[error("{place}: {key} is read at start only; change it in the configuration and restart")]
    NeedsRestart {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `rocket-broker config` lists all keys".to_owned(),
        |nearest| format!("; did you mean `{nearest}`?"),
    )
}

/// Everything that is wrong with a configuration, in the order in which it was found; never empty.
#[derive(Debug)]
pub struct Error {
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}
