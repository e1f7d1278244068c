//! From file and overrides to a checked configuration, or to everything that is wrong with them.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Error, Place, Problem};
use super::ignored::Ignored;
use super::source::{self, Entry};
use super::table::{Settings, apply};

/// A configuration and what a person should know about how it came about.
#[derive(Debug)]
pub struct Loaded<S> {
    /// The configuration.
    pub config: S,
    /// Keys without effect and keys given twice; one line each.
    pub warnings: Vec<String>,
}

/// Takes `defaults` that differ from the table's, then `file` (none: nothing), then `overrides`; a later entry wins over an earlier one.
///
/// # Errors
/// All problems at once, so that a file is repaired in one go.
pub fn load<S: Settings>(
    defaults: Vec<Entry>,
    file: Option<&Path>,
    overrides: Vec<Entry>,
) -> Result<Loaded<S>, Error> {
    let entries = file.map(source::read).transpose()?.unwrap_or_default();
    from_entries(defaults.into_iter().chain(entries).chain(overrides))
}

/// As [`load`], from entries that were read already.
pub(super) fn from_entries<S: Settings>(
    entries: impl IntoIterator<Item = Entry>,
) -> Result<Loaded<S>, Error> {
    let mut config = S::default();
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut given: BTreeMap<String, Place> = BTreeMap::new();
    let mut without_effect: BTreeMap<&'static str, (&'static Ignored, Entry)> = BTreeMap::new();
    for entry in entries {
        if let Some(ignored) = S::IGNORED.iter().find(|ignored| ignored.name == entry.key) {
            warnings.push(format!(
                "{}: {} has no effect: {}",
                entry.place, entry.key, ignored.why
            ));
            without_effect.insert(ignored.name, (ignored, entry));
            continue;
        }
        if let Err(problem) = apply(&mut config, &entry) {
            problems.push(problem);
        }
        let file_line = |place: &Place| matches!(place, Place::Line(..));
        if let Some(before) = given.insert(entry.key.clone(), entry.place.clone())
            && file_line(&before)
            && file_line(&entry.place)
        {
            warnings.push(format!(
                "{}: {} was given before, at {before}; this one counts",
                entry.place, entry.key
            ));
        }
    }
    let root = config.get("storePathRootDir").unwrap_or_default();
    for (ignored, entry) in without_effect.into_values() {
        if let Err(why) = ignored.check(&entry.value, &root) {
            problems.push(Problem::BadValue {
                place: entry.place,
                key: ignored.name,
                value: entry.value,
                why,
            });
        }
    }
    if problems.is_empty() {
        problems = config.contradictions(&|key| given.contains_key(key));
    }
    if problems.is_empty() {
        Ok(Loaded { config, warnings })
    } else {
        Err(Error { problems })
    }
}

impl Entry {
    /// From `key=value` of the command line.
    ///
    /// # Errors
    /// When there is no `=`.
    pub fn from_flag(text: &str) -> Result<Self, Problem> {
        let (key, value) = text.split_once('=').ok_or_else(|| Problem::Syntax {
            place: Place::Set,
            why: format!("`{text}` must be key=value"),
        })?;
        Ok(Self {
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
            place: Place::Set,
        })
    }

    /// A key that a flag of its own sets.
    pub fn of_flag(flag: &'static str, key: &str, value: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            value: value.into(),
            place: Place::Flag(flag),
        }
    }
}
