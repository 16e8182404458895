//! The sockets a server can be reached by.

use std::{
    io,
    net::Shutdown,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use crate::{Address, Endpoint, Error, Tls, tls};

/// A socket to the server.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens a socket for another driver, encrypted and verified as the endpoint says: what is spoken over it is the driver's.
///
/// # Errors
///
/// When the server cannot be reached or verified.
///
/// # Cancel safety
///
/// When dropped, the socket is closed.
pub async fn open_socket(endpoint: &Endpoint) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, Error> {
    Socket::open(endpoint).await
}

impl Socket {
    /// Connects, and encrypts where the endpoint says so.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, Error> {
        match &endpoint.address {
            Address::Unix { directory, port } => {
                let stream = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await?;
                Ok(Self::Unix(stream))
            }
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Each call is one small write that must leave at once.
                stream.set_nodelay(true)?;
                match &endpoint.tls {
                    Tls::Off => Ok(Self::Tcp(stream)),
                    Tls::Verified { roots_pem } => Ok(Self::Tls(Box::new(tls::wrap(stream, host, roots_pem).await?))),
                }
            }
        }
    }
}

/// Ends a socket from outside of the task that uses it: whatever it waits for fails then.
#[derive(Debug)]
pub(crate) enum Shears {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Shears {
    pub(crate) fn cut(&self) {
        // A socket that is closed already can't be shut down, which is as well.
        let _ = match self {
            Self::Tcp(stream) if reset(stream) => Ok(()),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// Lets the other side know at once. A socket that is shut down while its owner does not read keeps a server waiting that has more to send: that
/// hears of it with its next probe of the closed window, which comes after up to two minutes.
fn reset(stream: &std::net::TcpStream) -> bool {
    cfg!(target_os = "linux") && rustix::net::connect_unspec(stream).is_ok()
}

impl Socket {
    /// What ends this socket from outside; it holds a descriptor of its own.
    pub(crate) fn shears(&self) -> io::Result<Shears> {
        Ok(match self {
            Self::Tcp(stream) => Shears::Tcp(stream.as_fd().try_clone_to_owned()?.into()),
            Self::Tls(stream) => Shears::Tcp(stream.get_ref().0.as_fd().try_clone_to_owned()?.into()),
            Self::Unix(stream) => Shears::Unix(stream.as_fd().try_clone_to_owned()?.into()),
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
