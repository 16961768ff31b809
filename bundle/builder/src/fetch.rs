//! Downloads that go on where they broke off.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bundle::digest;
use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_RANGE, HeaderMap, RANGE, WWW_AUTHENTICATE},
    redirect::{Attempt, Policy},
};

use crate::Error;

/// How long after each failure it is tried again. One that brought something new does not count.
const PAUSES: [Duration; 4] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];

/// A server that says nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a server may send the client on.
const REDIRECTS: usize = 10;

/// A client for the releases of other projects.
#[derive(Clone)]
pub struct Downloads {
    http: reqwest::Client,
    headers: HeaderMap,
    https_only: bool,
    pauses: [Duration; PAUSES.len()],
}

/// Why one attempt did not bring the whole.
enum Broken {
    /// The next attempt may.
    Passing(Error),
    /// Every attempt would end so.
    Final(Error),
}

impl Downloads {
    pub fn new() -> Result<Self, Error> {
        Self::with(true, PAUSES)
    }

    /// One that is content with http, and does not wait before it tries again.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        Self::with(false, [Duration::ZERO; PAUSES.len()]).unwrap()
    }

    fn with(https_only: bool, pauses: [Duration; PAUSES.len()]) -> Result<Self, Error> {
        let policy =
            Policy::custom(move |attempt: Attempt<'_>| match objection(https_only, attempt.previous().len(), attempt.url()) {
                None => attempt.follow(),
                Some(objection) => attempt.error(objection),
            });
        // GitHub answers nobody who does not say who asks.
        let builder = transport::web_client()
            .user_agent(concat!("k8slab.capi/", env!("CARGO_PKG_VERSION")))
            .https_only(https_only)
            .redirect(policy)
            .connect_timeout(SILENCE)
            .read_timeout(SILENCE);
        let failed = |error: reqwest::Error| Error::Download { url: "https".into(), reason: converge::cause(&error) };
        Ok(Self { http: builder.build().map_err(failed)?, headers: HeaderMap::new(), https_only, pauses })
    }

    /// The same client, which sends these headers with every request. Where a server sends it on to another, that one does not
    /// get to see who is asking.
    pub fn with_headers(&self, headers: HeaderMap) -> Self {
        Self { headers, ..self.clone() }
    }

    /// The scheme of addresses that have none.
    pub fn scheme(&self) -> &'static str {
        if self.https_only { "https" } else { "http" }
    }

    /// A short text.
    pub async fn text(&self, url: &str) -> Result<String, Error> {
        let read = async || match self.get(url, 0).await? {
            response if response.status() == StatusCode::OK => response.text().await.map_err(|error| failed(url, &error)),
            response => Err(refused(url, response.status())),
        };
        self.persist(|| 0, read).await
    }

    /// What a server demands before it answers, if it demands something.
    pub async fn challenge(&self, url: &str) -> Result<Option<String>, Error> {
        let ask = async || {
            let response = self.get(url, 0).await?;
            let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|challenge| challenge.to_str().ok());
            match (response.status(), challenge) {
                (StatusCode::OK, _) => Ok(None),
                (StatusCode::UNAUTHORIZED, Some(challenge)) => Ok(Some(challenge.to_owned())),
                (status, _) => Err(refused(url, status)),
            }
        };
        self.persist(|| 0, ask).await
    }

    /// A file that has this digest, unless it is there already. What an earlier run left of it is made use of.
    pub async fn file(&self, url: &str, sha256: &str, destination: &Path) -> Result<(), Error> {
        if destination.exists() && digest(destination).map_err(Error::at(destination))? == sha256 {
            return Ok(());
        }
        if let Some(folder) = destination.parent() {
            fs::create_dir_all(folder).map_err(Error::at(folder))?;
        }
        let partial = beside(destination, "partial");
        self.persist(|| length(&partial), async || self.attempt(url, &partial).await).await?;
        let actual = digest(&partial).map_err(Error::at(&partial))?;
        if actual != sha256 {
            fs::remove_file(&partial).map_err(Error::at(&partial))?;
            return Err(Error::Digest { url: url.to_owned(), expected: sha256.to_owned(), actual });
        }
        fs::rename(&partial, destination).map_err(Error::at(destination))
    }

    /// Tries until it succeeds, until it fails in a way that would not pass, or until it has not got on for too long.
    async fn persist<T>(&self, progress: impl Fn() -> u64, attempt: impl AsyncFn() -> Result<T, Broken>) -> Result<T, Error> {
        let mut pauses = self.pauses.iter();
        loop {
            let before = progress();
            let error = match attempt().await {
                Ok(got) => return Ok(got),
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Passing(error)) => error,
            };
            if progress() > before {
                pauses = self.pauses.iter();
            }
            match pauses.next() {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(error),
            }
        }
    }

    /// Asks for what comes after so many bytes.
    async fn get(&self, url: &str, have: u64) -> Result<Response, Broken> {
        let mut request = self.http.get(url).headers(self.headers.clone());
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        request.send().await.map_err(|error| failed(url, &error))
    }

    async fn attempt(&self, url: &str, partial: &Path) -> Result<(), Broken> {
        let written = |error| Broken::Final(Error::at(partial)(error));
        let have = length(partial);
        let mut response = self.get(url, have).await?;
        let mut options = OpenOptions::new();
        match response.status() {
            StatusCode::OK => options.create(true).write(true).truncate(true),
            StatusCode::PARTIAL_CONTENT if continues(&response, have) => options.append(true),
            // What is there is not the beginning of what the server has, or already the whole: its digest tells later.
            StatusCode::RANGE_NOT_SATISFIABLE if ends(&response, have) => return Ok(()),
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
                fs::remove_file(partial).map_err(written)?;
                let reason = "the server does not go on where the download broke off".to_owned();
                return Err(Broken::Passing(Error::Download { url: url.to_owned(), reason }));
            }
            status => return Err(refused(url, status)),
        };
        let mut file = options.open(partial).map_err(written)?;
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, &error))? {
            file.write_all(&chunk).map_err(written)?;
        }
        file.sync_all().map_err(written)
    }
}

/// A hidden file next to another, which belongs to it.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

fn failed(url: &str, error: &reqwest::Error) -> Broken {
    let is_final = error.is_redirect();
    let error = Error::Download { url: url.to_owned(), reason: converge::cause(error) };
    if is_final { Broken::Final(error) } else { Broken::Passing(error) }
}

fn refused(url: &str, status: StatusCode) -> Broken {
    let error = Error::DownloadStatus { url: url.to_owned(), status: status.as_u16() };
    let passes = status.is_server_error() || [408, 429].contains(&status.as_u16());
    if passes { Broken::Passing(error) } else { Broken::Final(error) }
}

/// Whether the answer begins where the file at hand ends.
fn continues(response: &Response, have: u64) -> bool {
    content_range(response).is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// Whether the server has as much as the file at hand.
fn ends(response: &Response, have: u64) -> bool {
    content_range(response) == Some(&format!("bytes */{have}"))
}

fn content_range(response: &Response) -> Option<&str> {
    response.headers().get(CONTENT_RANGE)?.to_str().ok()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Why a redirect is not followed.
fn objection(https_only: bool, followed: usize, next: &Url) -> Option<String> {
    if https_only && next.scheme() != "https" {
        return Some(format!("the server sends the client on to {next}, which is not https"));
    }
    (followed > REDIRECTS).then(|| format!("the server sends the client on more than {REDIRECTS} times"))
}

#[cfg(test)]
mod tests {
    use converge::Explain as _;
    use data_encoding::HEXLOWER;
    use reqwest::header::{AUTHORIZATION, HeaderValue};
    use sha2::{Digest as _, Sha256};

    use super::{
        super::site::{Answer, Files, Site, block_on},
        *,
    };

    const CONTENT: &[u8] = b"a release that is long enough to be cut in two";

    struct Fetched {
        outcome: Result<(), Error>,
        content: Option<Vec<u8>>,
        left: Option<Vec<u8>>,
        requests: Vec<String>,
    }

    /// Fetches from a server with this script, with these bytes left by an earlier run.
    fn fetch(earlier: &[u8], script: Vec<Answer>, sha256: &str) -> Fetched {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("below/file");
        let partial = beside(&file, "partial");
        if !earlier.is_empty() {
            fs::create_dir(folder.path().join("below")).unwrap();
            fs::write(&partial, earlier).unwrap();
        }
        let files = ["/file", "/a", "/b"].map(|path| (path.to_owned(), CONTENT.to_vec())).into();
        let site = Site::open(Files { files, token: None }, script);
        let outcome = block_on(Downloads::for_tests().file(&format!("{}/file", site.address), sha256, &file));
        Fetched { outcome, content: fs::read(file).ok(), left: fs::read(partial).ok(), requests: site.close() }
    }

    fn sha256() -> String {
        HEXLOWER.encode(&Sha256::digest(CONTENT))
    }

    #[test]
    fn what_can_be_had_is_had_whole() {
        use Answer::{Cut, Redirect, Serve, Status, Whole};
        let half = &CONTENT[..20];
        for (case, earlier, script, requests) in [
            ("at once", &[][..], vec![Serve], &["/file"][..]),
            ("by redirects", &[], vec![Redirect("/a"), Redirect("/b"), Serve], &["/file", "/a", "/b"]),
            ("after server errors", &[], vec![Status(500), Status(503), Status(429), Serve], &["/file"; 4]),
            ("cut twice", &[], vec![Cut(10), Cut(10), Serve], &["/file", "/file from 10", "/file from 20"]),
            (
                "cut more often than it is tried again without getting on",
                &[],
                vec![Cut(9); 5],
                &["/file", "/file from 9", "/file from 18", "/file from 27", "/file from 36", "/file from 45"],
            ),
            ("left by an earlier run", half, vec![Serve], &["/file from 20"]),
            ("left whole", CONTENT, vec![Serve], &["/file from 46"]),
            ("no ranges", half, vec![Whole], &["/file from 20"]),
            ("range refused", half, vec![Status(416), Serve], &["/file from 20", "/file"]),
        ] {
            let fetched = fetch(earlier, script, &sha256());
            assert!(fetched.outcome.is_ok(), "{case}: {:?}", fetched.outcome);
            assert_eq!(fetched.content.as_deref(), Some(CONTENT), "{case}");
            assert_eq!(fetched.left, None, "{case}");
            assert_eq!(fetched.requests, requests, "{case}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_not_there() {
        use Answer::{Redirect, Serve, Status};
        let foreign = [b'x'; 20];
        for (case, earlier, script, digest, code) in [
            ("not found", &[][..], vec![Status(404)], sha256(), "DOWNLOAD_STATUS"),
            ("down for long", &[], vec![Status(503); 5], sha256(), "DOWNLOAD_STATUS"),
            ("another digest", &[], vec![Serve], "00".repeat(32), "CHECKSUM_MISMATCH"),
            ("another beginning", &foreign, vec![Serve], sha256(), "CHECKSUM_MISMATCH"),
            ("in a circle", &[], vec![Redirect("/file"); 11], sha256(), "DOWNLOAD_FAILED"),
        ] {
            let fetched = fetch(earlier, script, &digest);
            assert_eq!(fetched.outcome.map_err(|error| error.code()), Err(code), "{case}");
            assert_eq!((fetched.content, fetched.left), (None, None), "{case}");
        }
    }

    #[test]
    fn what_was_fetched_is_kept_for_the_next_run() {
        use Answer::{Cut, Status};
        let fetched = fetch(&[], [vec![Cut(10)], vec![Status(503); 4]].concat(), &sha256());
        assert_eq!(fetched.outcome.map_err(|error| error.code()), Err("DOWNLOAD_STATUS"));
        assert_eq!(fetched.left.as_deref(), Some(&CONTENT[..10]));
    }

    #[test]
    fn a_server_that_one_is_sent_on_to_does_not_see_who_asks() {
        let files = || Files { files: [("/v2/file".to_owned(), CONTENT.to_vec())].into(), token: Some("t0ken") };
        let elsewhere = Site::open(files(), Vec::new());
        let site = Site::open(files(), vec![Answer::Serve, Answer::Redirect(format!("{}/v2/file", elsewhere.address).leak())]);
        let headers = [(AUTHORIZATION, HeaderValue::from_static("Bearer t0ken"))].into_iter().collect();
        let downloads = Downloads::for_tests().with_headers(headers);
        let ask = || block_on(downloads.text(&format!("{}/v2/file", site.address)));
        assert_eq!(ask().unwrap().as_bytes(), CONTENT);
        assert!(matches!(ask(), Err(Error::DownloadStatus { status: 401, .. })));
        assert_eq!((site.close().len(), elsewhere.close().len()), (2, 1));
    }

    #[test]
    fn redirects_stay_with_https() {
        for (next, objected) in [("https://example.org/x", false), ("http://example.org/x", true), ("file:///etc/shadow", true)] {
            assert_eq!(objection(true, 1, &next.parse().unwrap()).is_some(), objected, "{next}");
        }
    }
}
