//! What kubelet asks: whether the manager runs, and whether it sees what it has to.

use std::{
    convert::Infallible,
    net::Ipv6Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http_body_util::Empty;
use hyper::{Request, Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The port unless another is said.
pub const PORT: u16 = 9440;

/// Whether the manager sees all objects. It does not go back: a watch that breaks is taken up again.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// The first lists of all watches are there.
    pub fn declare(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn status(&self, path: &str) -> StatusCode {
        match path {
            "/healthz" => StatusCode::OK,
            "/readyz" if self.0.load(Ordering::Acquire) => StatusCode::OK,
            "/readyz" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NOT_FOUND,
        }
    }
}

/// Answers on all addresses for as long as it is polled.
pub async fn serve(port: u16, readiness: Readiness) -> std::io::Result<Infallible> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
    loop {
        let (connection, _) = listener.accept().await?;
        let readiness = readiness.clone();
        tokio::spawn(async move {
            let answer = service_fn(async |request: Request<_>| {
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = readiness.status(request.uri().path());
                Ok::<_, Infallible>(response)
            });
            // A prober that hangs up is none of our business.
            drop(http1::Builder::new().serve_connection(TokioIo::new(connection), answer).await);
        });
    }
}
