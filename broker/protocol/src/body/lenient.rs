//! Readers for fields that some clients write in another kind than Java: the C++ client writes numbers as texts.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, SeqAccess, Visitor};

/// Reads an integer from a number or a text.
///
/// # Errors
/// When it is neither, or does not fit in `T`.
pub fn integer<'de, T: TryFrom<i64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Integer(PhantomData))
}

/// Reads a list of integers from numbers or texts.
///
/// # Errors
/// As [`integer`].
pub fn integers<'de, T: TryFrom<i64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Integers(PhantomData))
}

struct Integer<T>(PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for Integer<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, or one as a text")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::custom("integer out of range"))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        let value = i64::try_from(value).map_err(|_| E::custom("integer out of range"))?;
        self.visit_i64(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        let value = value.parse().map_err(|_| E::custom("no integer"))?;
        self.visit_i64(value)
    }
}

struct Integers<T>(PhantomData<T>);

/// An element, so that a list can be read with [`integer`].
struct Element<T>(T);

impl<'de, T: TryFrom<i64>> de::Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        integer(deserializer).map(Element)
    }
}

impl<'de, T: TryFrom<i64>> Visitor<'de> for Integers<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of integers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut integers = Vec::new();
        while let Some(Element(integer)) = list.next_element()? {
            integers.push(integer);
        }
        Ok(integers)
    }
}
