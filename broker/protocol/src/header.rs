//! Typed headers: what the `extFields` of each request and response say.
//!
//! A header struct is the wire's view: texts are texts, numbers are numbers, what may be missing is an `Option`. Turning
//! them into checked names and offsets is the first act of the code that serves the request.

use thiserror::Error;

use crate::byte_str::ByteStr;
use crate::ext_fields::ExtFields;

/// Why the fields of a command are not the header that its code asks for. Answer code 1 with this as the remark.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// A field that must be there is not.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// A field's text is not of its kind.
    #[error("the field {name} is no {expected}")]
    Malformed {
        /// The field's name on the wire.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// A header that can be written to and read from the fields of a command.
pub trait HeaderFields: Sized {
    /// Adds the fields; those without a value are left out.
    fn write(&self, ext: &mut ExtFields);

    /// Reads the fields. Fields that the header does not know are ignored.
    fn read(ext: &ExtFields) -> Result<Self, HeaderError>;
}

/// A field's type: how it is read from and written to one text.
pub trait Field: Sized {
    /// Reads the field `name`.
    fn read(ext: &ExtFields, name: &'static str) -> Result<Self, HeaderError>;

    /// Writes the field `name`, if it has a value.
    fn write(&self, ext: &mut ExtFields, name: &'static str);
}

impl Field for ByteStr {
    fn read(ext: &ExtFields, name: &'static str) -> Result<Self, HeaderError> {
        ext.get_shared(name).ok_or(HeaderError::Missing(name))
    }

    fn write(&self, ext: &mut ExtFields, name: &'static str) {
        ext.insert(name, self.clone());
    }
}

impl Field for Option<ByteStr> {
    fn read(ext: &ExtFields, name: &'static str) -> Result<Self, HeaderError> {
        Ok(ext.get_shared(name))
    }

    fn write(&self, ext: &mut ExtFields, name: &'static str) {
        if let Some(value) = self {
            ext.insert(name, value.clone());
        }
    }
}

macro_rules! printed_field {
    ($type:ty, $expected:literal, $parse:expr) => {
        impl Field for $type {
            fn read(ext: &ExtFields, name: &'static str) -> Result<Self, HeaderError> {
                <Option<$type>>::read(ext, name)?.ok_or(HeaderError::Missing(name))
            }

            fn write(&self, ext: &mut ExtFields, name: &'static str) {
                ext.insert_display(name, self);
            }
        }

        // The compact header turns an empty text into none, so here none and empty are the same for numbers in both forms.
        impl Field for Option<$type> {
            fn read(ext: &ExtFields, name: &'static str) -> Result<Self, HeaderError> {
                let malformed = HeaderError::Malformed {
                    name,
                    expected: $expected,
                };
                match ext.get(name) {
                    None | Some("") => Ok(None),
                    Some(text) => $parse(text).map(Some).ok_or(malformed),
                }
            }

            fn write(&self, ext: &mut ExtFields, name: &'static str) {
                if let Some(value) = self {
                    ext.insert_display(name, value);
                }
            }
        }
    };
}

printed_field!(i32, "32-bit number", |text: &str| text.parse::<i32>().ok());
printed_field!(i64, "64-bit number", |text: &str| text.parse::<i64>().ok());
// Java's `Boolean.parseBoolean`: whatever is not "true" is false.
printed_field!(bool, "boolean", |text: &str| Some(
    text.eq_ignore_ascii_case("true")
));

/// Declares header structs: `field: type = "wireName"`, with `or default` where a missing field has a value.
macro_rules! headers {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $type:ty = $wire:literal $(or $default:expr)?,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Default)]
        pub struct $name {
            $(#[doc = concat!("Wire field `", $wire, "`.")] pub $field: $type,)*
        }

        impl $crate::header::HeaderFields for $name {
            fn write(&self, ext: &mut $crate::ext_fields::ExtFields) {
                let _ = &ext;
                $($crate::header::Field::write(&self.$field, ext, $wire);)*
            }

            fn read(ext: &$crate::ext_fields::ExtFields) -> Result<Self, $crate::header::HeaderError> {
                let _ = &ext;
                Ok(Self { $($field: $crate::header::headers!(@read ext, $type, $wire $(, $default)?),)* })
            }
        }
    )*};
    (@read $ext:ident, $type:ty, $wire:literal) => {
        <$type as $crate::header::Field>::read($ext, $wire)?
    };
    (@read $ext:ident, $type:ty, $wire:literal, $default:expr) => {
        <Option<$type> as $crate::header::Field>::read($ext, $wire)?.unwrap_or($default)
    };
}
pub(crate) use headers;

mod admin;
mod client;
mod consume;
mod namesrv;
mod pop;
mod replica;
mod send;

pub use admin::*;
pub use client::*;
pub use consume::*;
pub use namesrv::*;
pub use pop::*;
pub use replica::*;
pub use send::*;

#[cfg(test)]
mod tests;
