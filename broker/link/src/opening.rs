//! How a connection becomes a link: both sides say what they speak and prove that they have the secret.
//!
//! ```text
//! dialer                                                    listener
//!   "RKTL" · version 2 · 0 0 · nonce 32          ─────────▶
//!                                                ◀─────────   "RKTL" · version 2 · 0 0 · nonce 32
//!   proof 32 (dialer, listener's nonce, its own) ─────────▶
//!                                                ◀─────────   proof 32 (listener, dialer's nonce, its own)
//! ```
//!
//! The listener proves itself last, so a stranger gets nothing from it that it could try a secret on. Until this is over
//! nothing is kept of the other side but these 72 bytes.

use std::io;

use ring::rand::{SecureRandom as _, SystemRandom};
use rocket_replication::messages::LINK_VERSION;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::secret::{NONCE_BYTES, PROOF_BYTES, Secret, Side};

const MAGIC: [u8; 4] = *b"RKTL";
const GREETING_BYTES: usize = 8 + NONCE_BYTES;

/// Why a connection did not become a link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpeningError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the other side speaks no replication link")]
    Magic,
    #[error(
        "the other side speaks version {0} of the link, this broker {LINK_VERSION}: update one of them"
    )]
    Version(u16),
    #[error("the other side does not have this cluster's replication secret")]
    Proof,
    #[error("it took too long")]
    Slow,
}

/// Opens `stream` as `side`.
pub(crate) async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    side: Side,
    secret: &Secret,
) -> Result<(), OpeningError> {
    let ours = nonce()?;
    match side {
        Side::Dialer => {
            stream.write_all(&greeting(&ours)).await?;
            let theirs = hear_greeting(stream).await?;
            stream
                .write_all(&secret.prove(side, &theirs, &ours))
                .await?;
            hear_proof(stream, secret, Side::Listener, &ours, &theirs).await
        }
        Side::Listener => {
            let theirs = hear_greeting(stream).await?;
            stream.write_all(&greeting(&ours)).await?;
            hear_proof(stream, secret, Side::Dialer, &ours, &theirs).await?;
            Ok(stream
                .write_all(&secret.prove(side, &theirs, &ours))
                .await?)
        }
    }
}

fn nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    let filled = SystemRandom::new().fill(&mut nonce);
    filled.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(nonce)
}

fn greeting(nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    let [high, low] = LINK_VERSION.to_be_bytes();
    [&MAGIC[..], &[high, low, 0, 0], nonce].concat()
}

async fn hear_greeting(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<[u8; NONCE_BYTES], OpeningError> {
    let mut heard = [0; GREETING_BYTES];
    stream.read_exact(&mut heard).await?;
    let [m0, m1, m2, m3, high, low, _, _, nonce @ ..] = heard;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(OpeningError::Magic);
    }
    match u16::from_be_bytes([high, low]) {
        LINK_VERSION => Ok(nonce),
        other => Err(OpeningError::Version(other)),
    }
}

async fn hear_proof(
    stream: &mut (impl AsyncRead + Unpin),
    secret: &Secret,
    speaker: Side,
    ours: &[u8; NONCE_BYTES],
    theirs: &[u8; NONCE_BYTES],
) -> Result<(), OpeningError> {
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).await?;
    if secret.is_proved(speaker, ours, theirs, &proof) {
        Ok(())
    } else {
        Err(OpeningError::Proof)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    async fn both(
        dialer: &[u8],
        listener: &[u8],
    ) -> (Result<(), OpeningError>, Result<(), OpeningError>) {
        let (mut one, mut other) = duplex(256);
        let (dialer, listener) = (Secret::new(dialer), Secret::new(listener));
        tokio::join!(
            async move { open(&mut one, Side::Dialer, &dialer).await },
            async move { open(&mut other, Side::Listener, &listener).await },
        )
    }

    #[tokio::test]
    async fn same_secret_opens_and_another_does_not() {
        let (dialer, listener) = both(b"secret", b"secret").await;
        assert!(dialer.is_ok() && listener.is_ok());
        let (dialer, listener) = both(b"secret", b"another").await;
        assert!(matches!(listener, Err(OpeningError::Proof)));
        // It gets no proof to try secrets on.
        assert!(matches!(dialer, Err(OpeningError::Io(_))));
    }

    #[tokio::test]
    async fn listener_without_the_secret_is_found_out() {
        let (mut one, mut other) = duplex(256);
        let impostor = async move {
            let theirs = hear_greeting(&mut other).await?;
            let ours = nonce()?;
            other.write_all(&greeting(&ours)).await?;
            let mut proof = [0; PROOF_BYTES];
            other.read_exact(&mut proof).await?;
            // All that it can say is what it heard, or what it makes up.
            other.write_all(&proof).await?;
            Ok::<_, OpeningError>(theirs)
        };
        let secret = Secret::new(b"secret");
        let (dialer, _) = tokio::join!(open(&mut one, Side::Dialer, &secret), impostor);
        assert!(matches!(dialer, Err(OpeningError::Proof)));
    }

    #[tokio::test]
    async fn stranger_and_other_version_are_named() {
        let (mut one, mut other) = duplex(256);
        other.write_all(&[b'G'; GREETING_BYTES]).await.unwrap();
        let secret = Secret::new(b"secret");
        let opened = open(&mut one, Side::Listener, &secret).await;
        assert!(matches!(opened, Err(OpeningError::Magic)));
        let (mut one, mut other) = duplex(256);
        let mut heard = greeting(&[7; NONCE_BYTES]);
        heard[5] = 9;
        other.write_all(&heard).await.unwrap();
        let opened = open(&mut one, Side::Listener, &secret).await;
        assert!(matches!(opened, Err(OpeningError::Version(9))));
    }
}
