//! The socket to the broker, in async form.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use wire::Frame;
use wire::channel::{body_length, pack};
use wire::request::{FromListener, ToListener};

/// Sends one frame.
pub(crate) async fn send(socket: &mut OwnedWriteHalf, frame: &FromListener) -> io::Result<()> {
    socket.write_all(&pack(frame)?).await
}

/// Receives one frame; the length is checked before anything is allocated.
pub(crate) async fn receive(socket: &mut OwnedReadHalf) -> io::Result<ToListener> {
    let mut head = [0; 4];
    socket.read_exact(&mut head).await?;
    let mut body = vec![0; body_length::<ToListener>(head).map_err(io::Error::other)?];
    socket.read_exact(&mut body).await?;
    ToListener::decode(&body).map_err(io::Error::other)
}
