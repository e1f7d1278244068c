//! The bit field `sysFlag` of a message (`MessageSysFlag.java`).
//!
//! ```text
//! bit 0     body is compressed              bit 4  born host is IPv6
//! bit 1     topic has messages of many tags bit 5  store host is IPv6
//! bits 2-3  transaction: 0 none, 1 prepared, bit 6  client must unwrap an inner batch
//!           2 commit, 3 rollback            bit 7  is an inner batch
//! bits 8-10 compression: 0 old zlib, 1 LZ4 frame, 2 zstd, 3 zlib
//! ```

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SysFlag(pub i32);

/// What a message is in a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransactionState {
    /// Not part of a transaction.
    None,
    /// Waits for the end of its transaction.
    Prepared,
    /// Its transaction was committed.
    Commit,
    /// Its transaction was rolled back.
    Rollback,
}

impl SysFlag {
    /// The body is compressed.
    pub const COMPRESSED: i32 = 0x1;
    /// The topic's messages carry several tags.
    pub const MULTI_TAGS: i32 = 0x2;
    /// Both transaction bits.
    pub const TRANSACTION_MASK: i32 = 0xc;
    /// Transaction bits of a prepared message.
    pub const TRANSACTION_PREPARED: i32 = 0x4;
    /// Transaction bits of a committed message.
    pub const TRANSACTION_COMMIT: i32 = 0x8;
    /// Transaction bits of a message that was rolled back.
    pub const TRANSACTION_ROLLBACK: i32 = 0xc;
    /// The born host has 16 bytes.
    pub const BORN_HOST_V6: i32 = 0x10;
    /// The store host has 16 bytes.
    pub const STORE_HOST_V6: i32 = 0x20;
    /// A client must unwrap the inner batch.
    pub const NEED_UNWRAP: i32 = 0x40;
    /// The body is an inner batch.
    pub const INNER_BATCH: i32 = 0x80;

    /// Whether all bits of `mask` are set.
    pub const fn has(self, mask: i32) -> bool {
        self.0 & mask == mask
    }

    /// This flag with the bits of `mask` set.
    #[must_use]
    pub const fn with(self, mask: i32) -> Self {
        Self(self.0 | mask)
    }

    /// This flag with the bits of `mask` cleared.
    #[must_use]
    pub const fn without(self, mask: i32) -> Self {
        Self(self.0 & !mask)
    }

    /// What the message is in a transaction.
    pub const fn transaction(self) -> TransactionState {
        match self.0 & Self::TRANSACTION_MASK {
            Self::TRANSACTION_PREPARED => TransactionState::Prepared,
            Self::TRANSACTION_COMMIT => TransactionState::Commit,
            Self::TRANSACTION_ROLLBACK => TransactionState::Rollback,
            _ => TransactionState::None,
        }
    }

    /// This flag with other transaction bits.
    #[must_use]
    pub const fn with_transaction(self, state: TransactionState) -> Self {
        let bits = match state {
            TransactionState::None => 0,
            TransactionState::Prepared => Self::TRANSACTION_PREPARED,
            TransactionState::Commit => Self::TRANSACTION_COMMIT,
            TransactionState::Rollback => Self::TRANSACTION_ROLLBACK,
        };
        Self(self.0 & !Self::TRANSACTION_MASK | bits)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(TransactionState::None, 0x31)]
    #[case(TransactionState::Prepared, 0x35)]
    #[case(TransactionState::Commit, 0x39)]
    #[case(TransactionState::Rollback, 0x3d)]
    fn transaction_bits_are_replaced_whole(#[case] state: TransactionState, #[case] bits: i32) {
        let flag = SysFlag(0x3d).with_transaction(state);
        assert_eq!(flag, SysFlag(bits));
        assert_eq!(flag.transaction(), state);
    }
}
