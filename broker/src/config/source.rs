//! The two texts in which a configuration may be written: Java properties (`broker.conf`) and TOML.
//!
//! Properties as `java.util.Properties` reads them: `key=value`, `key:value` or `key value`; `#` and `!` open a comment line; a backslash
//! at the end of a line continues it; `\t \n \r \f \\ \= \: \#` and `\uXXXX` are escapes; blanks around the separator do not count.

use std::path::Path;

use super::error::{Error, Place, Problem};

/// One `key = value` as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value as text; lists are joined by `;` as RocketMQ writes them.
    pub value: String,
    /// Where it was given.
    pub place: Place,
}

/// Reads a file: TOML when its name ends in `.toml`, else properties.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Problem::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let at = |line| Place::Line(path.to_owned(), line);
    if path
        .extension()
        .is_some_and(|ext| ext.eq_ignore_ascii_case("toml"))
    {
        toml(&text, at)
    } else {
        properties(&text, at)
    }
}

/// Reads Java properties. `at` turns a line number into a place.
pub(super) fn properties(text: &str, at: impl Fn(usize) -> Place) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let start = line.trim_start();
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = start.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let place = at(index + 1);
        let (key, value) = split(&logical);
        let key = unescape(key).map_err(|why| Problem::Syntax {
            place: place.clone(),
            why,
        })?;
        let value = unescape(value).map_err(|why| Problem::Syntax {
            place: place.clone(),
            why,
        })?;
        if key.is_empty() {
            return Err(Problem::Syntax {
                place,
                why: "no key before the `=`".to_owned(),
            }
            .into());
        }
        // Trailing blanks are part of a Java value; no key of ours means them, and they are invisible in an editor.
        entries.push(Entry {
            key,
            value: value.trim_end().to_owned(),
            place,
        });
    }
    Ok(entries)
}

/// An odd number of backslashes at the end continues a line.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (index, character) in line.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match character {
            '\\' => escaped = true,
            '=' | ':' | ' ' | '\t' => {
                let (key, rest) = line.split_at(index);
                let rest = rest.trim_start();
                let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
                return (key, rest.trim_start());
            }
            _ => {}
        }
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let unit = u32::from_str_radix(&digits, 16)
                    .ok()
                    .and_then(char::from_u32);
                out.push(unit.ok_or_else(|| format!("`\\u{digits}` is not a character"))?);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

/// Reads flat TOML: strings, integers, booleans, and arrays of them.
pub(super) fn toml(text: &str, at: impl Fn(usize) -> Place) -> Result<Vec<Entry>, Error> {
    let line_of = |offset: usize| {
        text.get(..offset)
            .map_or(1, |before| before.matches('\n').count() + 1)
    };
    let table = ::toml::de::DeTable::parse(text).map_err(|error| Problem::Syntax {
        place: at(error.span().map_or(1, |span| line_of(span.start))),
        why: error.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let place = at(line_of(key.span().start));
        let Some(value) = scalar(value.get_ref()) else {
            let why = format!(
                "`{}` must be a string, a number, a boolean or an array of them",
                key.get_ref()
            );
            return Err(Problem::Syntax { place, why }.into());
        };
        entries.push(Entry {
            key: key.get_ref().to_string(),
            value,
            place,
        });
    }
    // The parser sorts by key; a later line of the file must win over an earlier one in every format.
    entries.sort_by_key(|entry| match &entry.place {
        Place::Line(_, line) => *line,
        _ => 0,
    });
    Ok(entries)
}

fn scalar(value: &::toml::de::DeValue<'_>) -> Option<String> {
    use ::toml::de::DeValue;
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .map(|integer| integer.to_string()),
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        DeValue::Array(items) => {
            let items: Option<Vec<String>> =
                items.iter().map(|item| scalar(item.get_ref())).collect();
            items.map(|items| items.join(";"))
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}
