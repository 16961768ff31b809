//! Files from https servers.

use std::{io::Write as _, path::Path, time::Duration};

use converge::{Explain, Explanation};
use data_encoding::HEXLOWER;
use reqwest::{
    StatusCode, Url,
    redirect::{Attempt, Policy},
};
use sha2::{Digest as _, Sha256};

use crate::{Error, Replacement};

/// How often a download is tried again, and how long after the failure.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// How often a server may send the client on.
const REDIRECTS: usize = 10;

/// A client of https servers. Proxies are taken from the environment, authorities from the machine's certificate store.
#[derive(Clone, Debug)]
pub struct Downloads {
    http: reqwest::Client,
}

/// A file that was downloaded whole and does not have its name yet.
#[derive(Debug)]
pub struct Downloaded {
    /// The file.
    pub file: Replacement,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Downloads {
    /// A client that gives up on a server which says nothing for this long.
    pub fn new(silence: Duration) -> Result<Self, Error> {
        let policy = Policy::custom(|attempt: Attempt<'_>| match objection(attempt.previous().len(), attempt.url()) {
            None => attempt.follow(),
            Some(objection) => attempt.error(objection),
        });
        let builder = transport::web_client().https_only(true).redirect(policy).connect_timeout(silence).read_timeout(silence);
        let failed = |error: reqwest::Error| DownloadError::Failed { url: "https".into(), reason: converge::cause(&error) };
        Ok(Self { http: builder.build().map_err(failed)? })
    }

    /// A short text.
    pub async fn text(&self, url: &str, limit: u64) -> Result<String, Error> {
        let fetch = async || {
            let mut bytes = Vec::new();
            self.stream(url, limit, |chunk| {
                bytes.extend_from_slice(chunk);
                Ok(())
            })
            .await?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        retry(fetch).await
    }

    /// A file that is to be at the real path `destination`.
    pub async fn file(&self, url: &str, destination: &Path, limit: u64) -> Result<Downloaded, Error> {
        let fetch = async || {
            let mut file = Replacement::begin(destination)?;
            let mut hasher = Sha256::new();
            self.stream(url, limit, |chunk| {
                hasher.update(chunk);
                file.write_all(chunk).map_err(|error| Error::io("write", destination, error))
            })
            .await?;
            Ok(Downloaded { file, sha256: HEXLOWER.encode(&hasher.finalize()) })
        };
        retry(fetch).await
    }

    async fn stream(&self, url: &str, limit: u64, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let failed = |error: reqwest::Error| DownloadError::Failed { url: url.to_owned(), reason: converge::cause(&error) };
        let too_large = || DownloadError::TooLarge { url: url.to_owned(), limit };
        let mut response = self.http.get(url).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(DownloadError::Status { url: url.to_owned(), status: response.status().as_u16() }.into());
        }
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large().into());
        }
        let mut left = limit;
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            left = left.checked_sub(chunk.len() as u64).ok_or_else(too_large)?;
            take(&chunk)?;
        }
        Ok(())
    }
}

async fn retry<T>(fetch: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    for pause in PAUSES {
        match fetch().await {
            Err(error) if is_passing(&error) => {
                tracing::info!("{error}; trying again");
                tokio::time::sleep(pause).await;
            }
            outcome => return outcome,
        }
    }
    fetch().await
}

/// Whether the same request may go well a moment later.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Download(DownloadError::Failed { .. }) => true,
        Error::Download(DownloadError::Status { status, .. }) => *status >= 500 || [408, 429].contains(status),
        _ => false,
    }
}

/// Why a redirect is not followed.
fn objection(followed: usize, next: &Url) -> Option<String> {
    if next.scheme() != "https" {
        return Some(format!("the server sends the client on to {next}, which is not https"));
    }
    (followed > REDIRECTS).then(|| format!("the server sends the client on more than {REDIRECTS} times"))
}

/// Why a download did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// It broke off, however often it was tried.
    #[error("{url} cannot be downloaded: {reason}")]
    Failed {
        /// The address.
        url: String,
        /// The library's words.
        reason: String,
    },
    /// The server said no.
    #[error("{url} answers with status {status}")]
    Status {
        /// The address.
        url: String,
        /// The status code.
        status: u16,
    },
    /// There is more than there should be.
    #[error("{url} has more than {} MiB", limit >> 20)]
    TooLarge {
        /// The address.
        url: String,
        /// How many bytes are taken.
        limit: u64,
    },
}

impl Explain for DownloadError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Failed { .. } => Explanation::new("DOWNLOAD_FAILED")
                .hint("the machine may need a proxy (https_proxy, by the task's environment), or take the file from a folder"),
            Self::Status { .. } => {
                Explanation::new("DOWNLOAD_STATUS").hint("look at version and URL: the file may not exist there")
            }
            Self::TooLarge { .. } => {
                Explanation::new("DOWNLOAD_TOO_LARGE").hint("the URL may lead to something else than the tool")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_with_https() {
        for (followed, next, objected) in [
            (1, "https://objects.example.org/x", false),
            (1, "http://objects.example.org/x", true),
            (1, "file:///etc/shadow", true),
            (REDIRECTS, "https://example.org/x", false),
            (REDIRECTS + 1, "https://example.org/x", true),
        ] {
            assert_eq!(objection(followed, &next.parse().unwrap()).is_some(), objected, "{followed} {next}");
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let status = |status| Error::from(DownloadError::Status { url: String::new(), status });
        for (error, passing) in [
            (status(404), false),
            (status(403), false),
            (status(429), true),
            (status(503), true),
            (DownloadError::Failed { url: String::new(), reason: "connection reset".into() }.into(), true),
            (DownloadError::TooLarge { url: String::new(), limit: 1 }.into(), false),
            (Error::Symlink { path: "/x".into() }, false),
        ] {
            assert_eq!(is_passing(&error), passing, "{error:?}");
        }
    }
}
