//! The socket to the broker, in async form.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use wire::codec::Frame;
use wire::request::{FromListener, ToListener};

/// Sends one frame.
pub(crate) async fn send(socket: &mut OwnedWriteHalf, frame: &FromListener) -> io::Result<()> {
    let body = frame.encode();
    if body.len() > FromListener::MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame over its bound"));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    socket.write_all(&length.to_be_bytes()).await?;
    socket.write_all(&body).await
}

/// Receives one frame; the length is checked before anything is allocated.
pub(crate) async fn receive(socket: &mut OwnedReadHalf) -> io::Result<ToListener> {
    let length = usize::try_from(socket.read_u32().await?).map_err(io::Error::other)?;
    if length > ToListener::MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    ToListener::decode(&body).map_err(io::Error::other)
}
