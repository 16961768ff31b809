//! An HTTP server on a unix socket or behind TLS, on a thread of its own, that lives as long as its value.

use std::convert::Infallible;
use std::future::Future;
use std::net::TcpListener as StdTcpListener;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// What answers the requests that arrive at a [`Listener`].
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn call(self: Arc<Self>, request: Request<Bytes>) -> impl Future<Output = Reply> + Send;
}

/// How a request ends.
pub(crate) enum Reply {
    /// The whole answer is sent.
    Whole(Response<Bytes>),
    /// Head and half of the body are sent, then the connection is closed.
    Half(Response<Bytes>),
    /// The connection is closed without an answer.
    Cut,
}

/// A running server; dropping it closes its socket and every connection.
pub(crate) struct Listener {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Serves `handler` on `socket`, which must not exist yet and answers as soon as this returns.
    pub(crate) fn start<H: Handler>(socket: &Path, handler: Arc<H>) -> Self {
        let socket = std::os::unix::net::UnixListener::bind(socket).expect("bind the test socket");
        socket.set_nonblocking(true).expect("make the test socket non-blocking");
        Self::run(async move {
            let socket = UnixListener::from_std(socket).expect("adopt the test socket");
            loop {
                if let Ok((connection, _)) = socket.accept().await {
                    tokio::spawn(serve(connection, Arc::clone(&handler)));
                }
            }
        })
    }

    /// Serves behind TLS; who answers depends on the certificate that the client shows.
    pub(crate) fn start_tls<H: Handler>(
        socket: StdTcpListener,
        tls: ServerConfig,
        handler: impl Fn(Option<CertificateDer<'static>>) -> Arc<H> + Send + 'static,
    ) -> Self {
        socket.set_nonblocking(true).expect("make the test socket non-blocking");
        Self::run(async move {
            let socket = TcpListener::from_std(socket).expect("adopt the test socket");
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            loop {
                let Ok((connection, _)) = socket.accept().await else { continue };
                // A client that does not finish the handshake ends only its own connection.
                let Ok(connection) = acceptor.accept(connection).await else { continue };
                let shown = connection.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let handler = handler(shown.map(|certificate| certificate.clone().into_owned()));
                tokio::spawn(serve(connection, handler));
            }
        })
    }

    fn run(accept: impl Future<Output = Infallible> + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start the test server's runtime");
            runtime.block_on(async {
                tokio::select! {
                    never = accept => match never {},
                    _ = stopped => (),
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the server is reported by its own thread; a second one here would abort the test run.
            let _ = thread.join();
        }
    }
}

async fn serve<H: Handler>(connection: impl AsyncRead + AsyncWrite + Unpin + Send, handler: Arc<H>) {
    let service = service_fn(|request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
            match handler.call(Request::from_parts(head, body)).await {
                Reply::Whole(response) => Ok(response.map(ReplyBody::whole)),
                Reply::Half(response) => Ok(response.map(|body| ReplyBody::half(&body))),
                Reply::Cut => Err(Cut),
            }
        }
    });
    // An error here is a client that went away or a cut that the test asked for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
}

/// The connection ends here.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// A body that may end too early: it declares `length` and sends `data`.
struct ReplyBody {
    data: Option<Bytes>,
    length: u64,
    cut: bool,
    flushed: bool,
}

impl ReplyBody {
    fn whole(data: Bytes) -> Self {
        Self { length: data.len() as u64, data: Some(data), cut: false, flushed: false }
    }

    fn half(data: &Bytes) -> Self {
        Self { length: data.len() as u64, data: Some(data.slice(..data.len() / 2)), cut: true, flushed: false }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if !self.cut {
            return Poll::Ready(None);
        }
        if !self.flushed {
            // hyper writes out what it holds while the body is pending, so that the client does get the first half.
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(Cut)))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
