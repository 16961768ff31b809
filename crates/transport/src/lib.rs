//! One way to make an HTTP client, over unix sockets and over TLS.
//!
//! Cargo joins the features of all crates in a build, and an HTTP client that can speak TLS refuses to be made without a
//! cryptography provider. So the feature and the provider live here, where no client can miss them.

/// A client to be, for servers that are known: it trusts no authority of its own accord.
///
/// Reading the machine's certificate store takes longer than most of what a step asks of a unix socket.
pub fn client() -> reqwest::ClientBuilder {
    #[cfg(feature = "tls")]
    return web_client().tls_certs_only([]);
    #[cfg(not(feature = "tls"))]
    reqwest::Client::builder()
}

/// A client to be, for servers of the web: it trusts whom the machine trusts.
#[cfg(feature = "tls")]
pub fn web_client() -> reqwest::ClientBuilder {
    // Fails when there is a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
