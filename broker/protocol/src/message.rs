//! Messages: the record that lies in the commit log and travels to consumers unchanged, and what is inside it.

pub mod batch;
pub mod encode;
pub mod facts;
pub mod hash;
pub mod id;
pub mod properties;
pub mod record;
pub mod sys_flag;

pub use batch::{BatchError, BatchMessage};
pub use encode::{EncodeError, Message, MessageRef, write_blank};
pub use facts::{RecordFacts, SendFacts};
pub use id::{IdError, OffsetMessageId, UniqueKey};
pub use properties::{Properties, property};
pub use record::{RecordError, RecordView, body_crc};
pub use sys_flag::{SysFlag, TransactionState};
