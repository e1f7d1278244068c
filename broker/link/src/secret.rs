//! The secret that the brokers of a cluster share, and what proves that one has it.
//!
//! A proof is HMAC-SHA256 over who speaks, the hearer's fresh nonce and the speaker's own. A proof is of use once, to one
//! hearer, and never to the one that made it. The secret itself never travels.

use std::fmt;
use std::path::{Path, PathBuf};

use ring::hmac;

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 32;
/// Bytes of a proof.
pub(crate) const PROOF_BYTES: usize = 32;
/// Fewer letters that a person made up could be guessed.
const SECRET_BYTES_MIN: usize = 32;
/// More is a wrong file.
const SECRET_BYTES_MAX: usize = 4096;

/// The shared secret. Its debug form shows nothing of it.
#[derive(Clone)]
pub struct Secret(hmac::Key);

/// A file that holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("the replication secret {path} cannot be read: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Too short or too long.
    #[error(
        "the replication secret {path} has {len} bytes, white space around them included; it needs {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes found.
        len: usize,
    },
}

/// Which end of a connection proves itself, and what the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that opened a replication link.
    Dialer,
    /// The one that accepted it.
    Listener,
    /// The one that opened a connection to a register.
    Asker,
    /// The one that keeps the register.
    Keeper,
}

impl Secret {
    /// Takes bytes as they are.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Reads a file; white space around the secret does not count.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let content = std::fs::read(path).map_err(|source| SecretError::File {
            path: path.to_owned(),
            source,
        })?;
        let secret = content.trim_ascii();
        // Random bytes may begin or end with what looks like white space.
        let is_good = secret.len() * 2 >= SECRET_BYTES_MIN
            && (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&content.len());
        if !is_good {
            return Err(SecretError::Length {
                path: path.to_owned(),
                len: content.len(),
            });
        }
        Ok(Self::new(secret))
    }

    /// What `side` says to prove itself to who drew `theirs`.
    pub(crate) fn prove(
        &self,
        side: Side,
        theirs: &[u8; NONCE_BYTES],
        ours: &[u8; NONCE_BYTES],
    ) -> [u8; PROOF_BYTES] {
        let tag = hmac::sign(&self.0, &said(side, theirs, ours));
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(tag.as_ref());
        proof
    }

    /// Whether `proof` is what `side` says to who drew `ours`, having drawn `theirs` itself. Takes the same time whatever differs.
    pub(crate) fn is_proved(
        &self,
        side: Side,
        ours: &[u8; NONCE_BYTES],
        theirs: &[u8; NONCE_BYTES],
        proof: &[u8],
    ) -> bool {
        hmac::verify(&self.0, &said(side, ours, theirs), proof).is_ok()
    }
}

fn said(side: Side, hearer: &[u8; NONCE_BYTES], speaker: &[u8; NONCE_BYTES]) -> Vec<u8> {
    let role: &[u8] = match side {
        Side::Dialer => b"rocket-link 1 dialer",
        Side::Listener => b"rocket-link 1 listener",
        Side::Asker => b"rocket-register 1 asker",
        Side::Keeper => b"rocket-register 1 keeper",
    };
    [role, hearer, speaker].concat()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [u8; NONCE_BYTES] = [1; NONCE_BYTES];
    const TWO: [u8; NONCE_BYTES] = [2; NONCE_BYTES];

    #[test]
    fn proof_holds_for_one_side_one_pair_of_nonces_and_one_secret() {
        let secret = Secret::new(b"a shared secret of some length");
        let proof = secret.prove(Side::Dialer, &ONE, &TWO);
        assert!(secret.is_proved(Side::Dialer, &ONE, &TWO, &proof));
        assert!(!secret.is_proved(Side::Listener, &ONE, &TWO, &proof));
        assert!(!secret.is_proved(Side::Asker, &ONE, &TWO, &proof));
        assert!(!secret.is_proved(Side::Dialer, &TWO, &ONE, &proof));
        assert!(!secret.is_proved(Side::Dialer, &ONE, &ONE, &proof));
        assert!(!Secret::new(b"another").is_proved(Side::Dialer, &ONE, &TWO, &proof));
        assert!(!secret.is_proved(Side::Dialer, &ONE, &TWO, &proof[1..]));
    }

    #[test]
    fn file_holds_a_secret_of_some_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            Secret::read(&path)
        };
        let proof = |secret: &Secret| secret.prove(Side::Dialer, &ONE, &TWO);
        let plain = read(&[7; 32]).unwrap();
        let with_newline = read(&[&[7; 32], &b"\n"[..]].concat()).unwrap();
        assert_eq!(proof(&plain), proof(&with_newline));
        assert!(matches!(
            read(&[7; 31]),
            Err(SecretError::Length { len: 31, .. })
        ));
        assert!(matches!(read(&[b' '; 40]), Err(SecretError::Length { .. })));
        assert!(matches!(
            read(&[7; 4097]),
            Err(SecretError::Length { len: 4097, .. })
        ));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Secret::read(&path), Err(SecretError::File { .. })));
    }

    #[test]
    fn secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new(b"hush")), "Secret(..)");
    }
}
