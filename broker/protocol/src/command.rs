//! A command: one request or response as it travels in one frame (`RemotingCommand.java`).

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::byte_str::ByteStr;
use crate::code::{RequestCode, ResponseCode};
use crate::ext_fields::ExtFields;
use crate::header::{HeaderError, HeaderFields};

/// The version that this program says it has: the ordinal of V5_3_3 in `MQVersion.java`, two for each patch release.
///
/// 5.x, so that clients use what we serve (POP, lite pull); below V5_4_0, so that nobody expects lite topics; above 475,
/// where a stopping server may answer GO_AWAY, which is allowed and never required.
pub const VERSION: i32 = 479;
/// [`VERSION`] as people read it.
pub const VERSION_NAME: &str = "V5_3_3";

const FLAG_RESPONSE: i32 = 1;
const FLAG_ONEWAY: i32 = 2;

/// The form of a frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HeaderFormat {
    /// A JSON object: type 0.
    #[default]
    Json,
    /// RocketMQ's own binary form: type 1.
    Compact,
}

/// The language of the program that made a command (`LanguageCode.java`); numbers that are not known stay as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Language(pub i8);

macro_rules! languages {
    ($($name:ident = $code:literal,)*) => {
        #[allow(missing_docs, reason = "the names are RocketMQ's own")]
        impl Language {
            $(pub const $name: Self = Self($code);)*
        }

        impl Language {
            /// RocketMQ's name; `OTHER` for a number that is not known.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "OTHER",
                }
            }

            /// The language of that name; `OTHER` for a name that is not known.
            pub fn from_name(name: &[u8]) -> Self {
                $(if name == stringify!($name).as_bytes() {
                    return Self::$name;
                })*
                Self::OTHER
            }
        }
    };
}

languages! {
    JAVA = 0, CPP = 1, DOTNET = 2, PYTHON = 3, DELPHI = 4, ERLANG = 5, RUBY = 6, OTHER = 7, HTTP = 8, GO = 9, PHP = 10,
    OMS = 11, RUST = 12, NODE_JS = 13,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// The body of a command: pieces that are sent one after another, so that a pull's records leave without a copy.
#[derive(Clone, Default)]
pub struct Body(Repr);

#[derive(Clone, Default)]
enum Repr {
    #[default]
    Empty,
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Body {
    /// No body.
    pub const EMPTY: Self = Self(Repr::Empty);

    /// Bytes of all pieces together.
    pub fn len(&self) -> usize {
        self.chunks().iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing in it; on the wire the same as no body.
    pub fn is_empty(&self) -> bool {
        self.chunks().iter().all(Bytes::is_empty)
    }

    /// The pieces.
    pub fn chunks(&self) -> &[Bytes] {
        match &self.0 {
            Repr::Empty => &[],
            Repr::One(chunk) => std::slice::from_ref(chunk),
            Repr::Many(chunks) => chunks,
        }
    }

    /// The body as one piece; copies only when there are several.
    pub fn contiguous(&self) -> Bytes {
        match self.chunks() {
            [] => Bytes::new(),
            [chunk] => chunk.clone(),
            chunks => {
                let mut whole = BytesMut::with_capacity(self.len());
                for chunk in chunks {
                    whole.extend_from_slice(chunk);
                }
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(chunk: Bytes) -> Self {
        if chunk.is_empty() {
            Self::EMPTY
        } else {
            Self(Repr::One(chunk))
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(chunks: Vec<Bytes>) -> Self {
        Self(Repr::Many(chunks))
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .chunks()
                .iter()
                .flatten()
                .eq(other.chunks().iter().flatten())
    }
}

impl Eq for Body {}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// A request's [`RequestCode`] or a response's [`ResponseCode`].
    pub code: i32,
    /// The language of the sender.
    pub language: Language,
    /// The version of the sender: an ordinal of `MQVersion.java`.
    pub version: i32,
    /// What matches a response to its request.
    pub opaque: i32,
    /// Bit 0: a response. Bit 1: no response is wanted.
    pub flag: i32,
    /// For people: why a request was refused.
    pub remark: Option<ByteStr>,
    /// The header of the request or response.
    pub ext: ExtFields,
    /// The body.
    pub body: Body,
    /// How the header travels.
    pub format: HeaderFormat,
}

impl Command {
    /// A request of this program.
    pub fn request(code: RequestCode) -> Self {
        Self::new(code.0, 0)
    }

    /// A response of this program. Whoever sends it fills in the request's opaque and header format.
    pub fn response(code: ResponseCode) -> Self {
        Self::new(code.0, FLAG_RESPONSE)
    }

    fn new(code: i32, flag: i32) -> Self {
        Self {
            code,
            // Java and Go clients decode only names that they know, and these two know JAVA.
            language: Language::JAVA,
            version: VERSION,
            opaque: 0,
            flag,
            remark: None,
            ext: ExtFields::new(),
            body: Body::EMPTY,
            format: HeaderFormat::Json,
        }
    }

    /// With the fields of a typed header added.
    #[must_use]
    pub fn with_header(mut self, header: &impl HeaderFields) -> Self {
        header.write(&mut self.ext);
        self
    }

    /// With another body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// With a remark for people.
    #[must_use]
    pub fn with_remark(mut self, remark: impl Into<ByteStr>) -> Self {
        self.remark = Some(remark.into());
        self
    }

    /// With one more field.
    #[must_use]
    pub fn with_ext(mut self, name: impl Into<ByteStr>, value: impl Into<ByteStr>) -> Self {
        self.ext.insert(name, value);
        self
    }

    /// Reads the typed header of a request or response.
    pub fn header<H: HeaderFields>(&self) -> Result<H, HeaderError> {
        H::read(&self.ext)
    }

    /// Whether this answers a request.
    pub const fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Whether this must not be answered.
    pub const fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// Says that this must not be answered.
    pub const fn set_oneway(&mut self) {
        self.flag |= FLAG_ONEWAY;
    }

    /// Makes this the response to the request with that opaque and header format.
    pub const fn set_response_to(&mut self, opaque: i32, format: HeaderFormat) {
        self.opaque = opaque;
        self.format = format;
        self.flag = (self.flag | FLAG_RESPONSE) & !FLAG_ONEWAY;
    }

    /// The code of a request.
    pub const fn request_code(&self) -> RequestCode {
        RequestCode(self.code)
    }

    /// The code of a response.
    pub const fn response_code(&self) -> ResponseCode {
        ResponseCode(self.code)
    }
}
