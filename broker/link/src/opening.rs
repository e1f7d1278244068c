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
//!
//! A connection to the register of a fixed master comes to the same port and opens in the same way, with "RKTR" for "RKTL" and with
//! proofs that are of no use for a link; the listener goes by the greeting.

use std::io;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use rocket_replication::messages::LINK_VERSION;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::secret::{NONCE_BYTES, PROOF_BYTES, Secret, Side};

const LINK: [u8; 4] = *b"RKTL";
const REGISTER: [u8; 4] = *b"RKTR";
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

/// Opens `stream` as `side`. Says which side this one is then: a listener to whom an asker came is the keeper.
pub(crate) async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    side: Side,
    secret: &Secret,
) -> Result<Side, OpeningError> {
    let ours = nonce()?;
    match side {
        Side::Dialer | Side::Asker => {
            let (magic, other) = match side {
                Side::Asker => (REGISTER, Side::Keeper),
                _ => (LINK, Side::Listener),
            };
            stream.write_all(&greeting(magic, &ours)).await?;
            let (heard, theirs) = hear_greeting(stream).await?;
            if heard != magic {
                return Err(OpeningError::Magic);
            }
            stream
                .write_all(&secret.prove(side, &theirs, &ours))
                .await?;
            hear_proof(stream, secret, other, &ours, &theirs).await?;
            Ok(side)
        }
        Side::Listener | Side::Keeper => {
            let (magic, theirs) = hear_greeting(stream).await?;
            let (side, other) = match magic {
                REGISTER => (Side::Keeper, Side::Asker),
                _ => (Side::Listener, Side::Dialer),
            };
            stream.write_all(&greeting(magic, &ours)).await?;
            hear_proof(stream, secret, other, &ours, &theirs).await?;
            stream
                .write_all(&secret.prove(side, &theirs, &ours))
                .await?;
            Ok(side)
        }
    }
}

/// As [`open`], and not longer than `patience`.
pub(crate) async fn within(
    patience: Duration,
    mut stream: TcpStream,
    side: Side,
    secret: &Secret,
) -> Result<(TcpStream, Side), OpeningError> {
    stream.set_nodelay(true)?;
    let opened = timeout(patience, open(&mut stream, side, secret)).await;
    let side = opened.map_err(|_| OpeningError::Slow)??;
    Ok((stream, side))
}

fn nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    let filled = SystemRandom::new().fill(&mut nonce);
    filled.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(nonce)
}

fn greeting(magic: [u8; 4], nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    let [high, low] = LINK_VERSION.to_be_bytes();
    [&magic[..], &[high, low, 0, 0], nonce].concat()
}

async fn hear_greeting(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<([u8; 4], [u8; NONCE_BYTES]), OpeningError> {
    let mut heard = [0; GREETING_BYTES];
    stream.read_exact(&mut heard).await?;
    let [m0, m1, m2, m3, high, low, _, _, nonce @ ..] = heard;
    let magic = [m0, m1, m2, m3];
    if magic != LINK && magic != REGISTER {
        return Err(OpeningError::Magic);
    }
    match u16::from_be_bytes([high, low]) {
        LINK_VERSION => Ok((magic, nonce)),
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
        side: Side,
    ) -> (Result<Side, OpeningError>, Result<Side, OpeningError>) {
        let (mut one, mut other) = duplex(256);
        let (dialer, listener) = (Secret::new(dialer), Secret::new(listener));
        tokio::join!(
            async move { open(&mut one, side, &dialer).await },
            async move { open(&mut other, Side::Listener, &listener).await },
        )
    }

    #[tokio::test]
    async fn same_secret_opens_and_another_does_not() {
        for (caller, called) in [(Side::Dialer, Side::Listener), (Side::Asker, Side::Keeper)] {
            let (dialer, listener) = both(b"secret", b"secret", caller).await;
            assert_eq!((dialer.unwrap(), listener.unwrap()), (caller, called));
            let (dialer, listener) = both(b"secret", b"another", caller).await;
            assert!(matches!(listener, Err(OpeningError::Proof)));
            // It gets no proof to try secrets on.
            assert!(matches!(dialer, Err(OpeningError::Io(_))));
        }
    }

    #[tokio::test]
    async fn listener_without_the_secret_is_found_out() {
        let (mut one, mut other) = duplex(256);
        let impostor = async move {
            let (magic, theirs) = hear_greeting(&mut other).await?;
            let ours = nonce()?;
            other.write_all(&greeting(magic, &ours)).await?;
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
        let mut heard = greeting(LINK, &[7; NONCE_BYTES]);
        heard[5] = 9;
        other.write_all(&heard).await.unwrap();
        let opened = open(&mut one, Side::Listener, &secret).await;
        assert!(matches!(opened, Err(OpeningError::Version(9))));
    }
}
