//! The form of a key table, and the macro that makes a checked struct from one.

use super::error::{Place, Problem};
use super::ignored::Ignored;
use super::source::Entry;

/// When a new value is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// At once, also through UPDATE_BROKER_CONFIG.
    Hot,
    /// At the next start.
    Restart,
}

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// RocketMQ has it, with this meaning.
    RocketMQ,
    /// This broker's own.
    Ours,
}

/// Which values a type's text may have, beyond being of that type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// All.
    Any,
    /// Integers from the first to the second, both included.
    Between(u64, u64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As in `broker.conf`.
    pub name: &'static str,
    /// The heading under which it is printed.
    pub section: &'static str,
    /// The type in words.
    pub kind: &'static str,
    /// The default as one would write it; empty = none.
    pub default: &'static str,
    /// The allowed values.
    pub rule: Rule,
    /// The unit of a number: `ms`, `s`, `h`, `bytes`, `%`; empty = none.
    pub unit: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
    /// When a change is taken up.
    pub apply: Apply,
    /// Whose key it is.
    pub origin: Origin,
}

impl Key {
    /// The allowed values in words; empty when the type says it all.
    pub fn allowed(&self) -> String {
        match self.rule {
            Rule::Any => String::new(),
            Rule::Between(low, u64::MAX) => format!("at least {low}"),
            Rule::Between(low, high) => format!("{low} to {high}"),
            Rule::OneOf(choices) => choices.join(", "),
        }
    }
}

/// A checked configuration that is made from a key table.
pub trait Settings: Default + Clone {
    /// The table.
    const KEYS: &'static [Key];
    /// RocketMQ's keys that are accepted without effect.
    const IGNORED: &'static [Ignored];

    /// Sets one key from text. `None`: not a key of this table.
    ///
    /// # Errors
    /// What is allowed, when the value is not.
    fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>>;

    /// The value of a key as text.
    fn get(&self, key: &str) -> Option<String>;

    /// Finds keys that contradict each other. `given` tells whether a key was given by the user.
    fn contradictions(&self, given: &dyn Fn(&str) -> bool) -> Vec<Problem>;

    /// A file name for examples.
    const EXAMPLE: &'static str;

    /// The row of a key.
    fn key(name: &str) -> Option<&'static Key> {
        Self::KEYS.iter().find(|key| key.name == name)
    }

    /// All keys with their values, one `key=value` a line, as GET_BROKER_CONFIG answers.
    fn to_properties(&self) -> String {
        Self::KEYS.iter().fold(String::new(), |mut text, key| {
            text.push_str(key.name);
            text.push('=');
            text.push_str(&self.get(key.name).unwrap_or_default());
            text.push('\n');
            text
        })
    }
}

/// A problem of one entry, if it has one.
pub(super) fn apply<S: Settings>(config: &mut S, entry: &Entry) -> Result<(), Problem> {
    let bad = |key: &'static str, why| Problem::BadValue {
        place: entry.place.clone(),
        key,
        value: entry.value.clone(),
        why,
    };
    match (
        config.set(&entry.key, entry.value.trim()),
        S::key(&entry.key),
    ) {
        (Some(Ok(())), _) => Ok(()),
        (Some(Err(why)), Some(key)) => Err(bad(key.name, why)),
        _ => Err(unknown::<S>(&entry.place, &entry.key)),
    }
}

pub(super) fn unknown<S: Settings>(place: &Place, key: &str) -> Problem {
    let names = S::KEYS
        .iter()
        .map(|key| key.name)
        .chain(S::IGNORED.iter().map(|ignored| ignored.name));
    Problem::UnknownKey {
        place: place.clone(),
        key: key.to_owned(),
        nearest: nearest(key, names),
    }
}

/// The name with the fewest edits, case left aside; `None` when even that differs in more than half of its letters. A line of
/// hundreds of letters is compared with none: its length alone differs too much.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    let len = wanted.chars().count();
    let is_near = |distance: usize| distance * 2 <= len.max(4);
    let (distance, name) = names
        .filter(|name| is_near(len.abs_diff(name.chars().count())))
        .map(|name| (edits(&wanted, &name.to_ascii_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)?;
    is_near(distance).then_some(name)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let up = *cell;
            left = (diagonal + usize::from(from != to))
                .min(up + 1)
                .min(left + 1);
            diagonal = up;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Makes a struct, its key table and its text access from one list of rows.
///
/// A row: doc comment, `field: Type, "key" = "default", rule, "unit", Apply, Origin;` under a `"section" { … }`.
macro_rules! settings {
    (
        $(#[$outer:meta])*
        pub struct $Name:ident ignoring $ignored:path, example $example:literal, $(
            $section:literal {$(
                $(#[doc = $doc:literal])+
                $field:ident : $ty:ty, $key:literal = $default:literal, $rule:expr, $unit:literal, $apply:ident, $origin:ident;
            )+}
        )+
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone)]
        pub struct $Name {$($(
            $(#[doc = $doc])+
            #[doc = concat!("\n\nKey `", $key, "`, default `", $default, "` ", $unit, ".")]
            pub $field: $ty,
        )+)+}

        impl $crate::config::Settings for $Name {
            const KEYS: &'static [$crate::config::Key] = &[$($(
                $crate::config::Key {
                    name: $key,
                    section: $section,
                    kind: <$ty as $crate::config::value::Value>::KIND,
                    default: $default,
                    rule: $rule,
                    unit: $unit,
                    doc: concat!($($doc),+),
                    apply: $crate::config::Apply::$apply,
                    origin: $crate::config::Origin::$origin,
                },
            )+)+];
            const IGNORED: &'static [$crate::config::ignored::Ignored] = $ignored;
            const EXAMPLE: &'static str = $example;

            fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>> {
                match key {
                    $($($key => Some($crate::config::value::parse::<$ty>(text, $rule, $unit).map(|value| self.$field = value)),)+)+
                    _ => None,
                }
            }

            fn get(&self, key: &str) -> Option<String> {
                match key {
                    $($($key => Some($crate::config::value::Value::show(&self.$field, $unit)),)+)+
                    _ => None,
                }
            }

            fn contradictions(&self, given: &dyn Fn(&str) -> bool) -> Vec<$crate::config::Problem> {
                self.find_contradictions(given)
            }
        }

        impl Default for $Name {
            fn default() -> Self {
                // A default that breaks its own rule is a fault of the table; a test reads every default.
                Self {$($(
                    $field: $crate::config::value::parse::<$ty>($default, $rule, $unit).expect(concat!("default of ", $key)),
                )+)+}
            }
        }
    };
}
pub(super) use settings;
