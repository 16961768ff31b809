//! Downloads that go on where they broke off.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
    time::Duration,
};

use bundle::digest;
use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_RANGE, RANGE},
    redirect::{Attempt, Policy},
};

use super::Error;

/// How long after each failure it is tried again. One that brought something new does not count.
const PAUSES: [Duration; 4] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];

/// A server that says nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a server may send the client on.
const REDIRECTS: usize = 10;

/// A client for the releases of other projects.
pub struct Downloads {
    http: reqwest::Client,
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
        let failed = |error: reqwest::Error| Error::Download { url: "https".into(), reason: transport::cause(&error) };
        Ok(Self { http: builder.build().map_err(failed)?, pauses })
    }

    /// A short text.
    pub async fn text(&self, url: &str, scratch: &Path) -> Result<String, Error> {
        self.complete(url, scratch).await?;
        let text = fs::read_to_string(scratch).map_err(Error::at(scratch))?;
        fs::remove_file(scratch).map_err(Error::at(scratch))?;
        Ok(text)
    }

    /// A file that has this digest. What an earlier run left at `partial` is made use of.
    pub async fn file(&self, url: &str, sha256: &str, partial: &Path, destination: &Path) -> Result<(), Error> {
        self.complete(url, partial).await?;
        let actual = digest(partial).map_err(Error::at(partial))?;
        if actual != sha256 {
            fs::remove_file(partial).map_err(Error::at(partial))?;
            return Err(Error::Digest { url: url.to_owned(), expected: sha256.to_owned(), actual });
        }
        fs::rename(partial, destination).map_err(Error::at(destination))
    }

    async fn complete(&self, url: &str, partial: &Path) -> Result<(), Error> {
        let mut pauses = self.pauses.iter();
        loop {
            let before = length(partial);
            let error = match self.attempt(url, partial).await {
                Ok(()) => return Ok(()),
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Passing(error)) => error,
            };
            if length(partial) > before {
                pauses = self.pauses.iter();
            }
            match pauses.next() {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(error),
            }
        }
    }

    async fn attempt(&self, url: &str, partial: &Path) -> Result<(), Broken> {
        let failed = |error: reqwest::Error| {
            let is_final = error.is_redirect();
            let error = Error::Download { url: url.to_owned(), reason: transport::cause(&error) };
            if is_final { Broken::Final(error) } else { Broken::Passing(error) }
        };
        let written = |error| Broken::Final(Error::at(partial)(error));
        let have = length(partial);
        let mut request = self.http.get(url);
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let mut response = request.send().await.map_err(failed)?;
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
            status => {
                let error = Error::DownloadStatus { url: url.to_owned(), status: status.as_u16() };
                let passing = status.is_server_error() || [408, 429].contains(&status.as_u16());
                return Err(if passing { Broken::Passing(error) } else { Broken::Final(error) });
            }
        };
        let mut file = options.open(partial).map_err(written)?;
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            file.write_all(&chunk).map_err(written)?;
        }
        file.sync_all().map_err(written)
    }
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
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::{TcpListener, TcpStream},
        path::PathBuf,
        thread::{self, JoinHandle},
    };

    use ansible::Explain as _;
    use sha2::{Digest as _, Sha256};

    use super::*;

    const CONTENT: &[u8] = b"a release that is long enough to be cut in two";

    /// What the server does with one request.
    #[derive(Clone, Copy)]
    enum Answer {
        /// Answers as asked, ranges included.
        Serve,
        /// Promises as much as is asked for, sends this many bytes of it and closes the connection.
        Cut(usize),
        /// Knows nothing of ranges.
        Whole,
        /// Answers with a status and nothing else.
        Status(u16),
        /// Sends the client to another path.
        Redirect(&'static str),
    }

    /// A server with an answer for each request that is to come; it ends with the paths and ranges that were asked for.
    fn server(script: Vec<Answer>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serving =
            thread::spawn(move || script.into_iter().map(|answer| serve(&listener.accept().unwrap().0, answer)).collect());
        (address, serving)
    }

    fn serve(mut stream: &TcpStream, answer: Answer) -> String {
        let lines: Vec<_> = BufReader::new(stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let path = lines[0].split(' ').nth(1).unwrap().to_owned();
        let start =
            lines.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        let head = |status: &str, length: usize| format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n");
        let from = start.unwrap_or(0);
        let (head, body) = match answer {
            Answer::Serve | Answer::Cut(_) if from >= CONTENT.len() => {
                (head("416 Range Not Satisfiable", 0) + &format!("content-range: bytes */{}\r\n", CONTENT.len()), &[][..])
            }
            Answer::Serve | Answer::Cut(_) => {
                let rest = &CONTENT[from..];
                let sent = if let Answer::Cut(sent) = answer { &rest[..sent] } else { rest };
                let range = format!("content-range: bytes {from}-{}/{}\r\n", CONTENT.len() - 1, CONTENT.len());
                match start {
                    Some(_) => (head("206 Partial Content", rest.len()) + &range, sent),
                    None => (head("200 OK", rest.len()), sent),
                }
            }
            Answer::Whole => (head("200 OK", CONTENT.len()), CONTENT),
            Answer::Status(status) => (head(&format!("{status} No"), 0), &[][..]),
            Answer::Redirect(path) => (head("302 Found", 0) + &format!("location: {path}\r\n"), &[][..]),
        };
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"\r\n").unwrap();
        stream.write_all(body).unwrap();
        start.map_or(path.clone(), |start: usize| format!("{path} from {start}"))
    }

    struct Fetched {
        outcome: Result<(), Error>,
        content: Option<Vec<u8>>,
        left: Option<Vec<u8>>,
        requests: Vec<String>,
    }

    /// Fetches from a server with this script, with these bytes left by an earlier run.
    fn fetch(earlier: &[u8], script: Vec<Answer>, sha256: &str) -> Fetched {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| -> PathBuf { folder.path().join(name) };
        if !earlier.is_empty() {
            fs::write(at("partial"), earlier).unwrap();
        }
        let (address, serving) = server(script);
        let downloads = Downloads::with(false, [Duration::ZERO; PAUSES.len()]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(downloads.file(&format!("{address}/file"), sha256, &at("partial"), &at("file")));
        Fetched {
            outcome,
            content: fs::read(at("file")).ok(),
            left: fs::read(at("partial")).ok(),
            requests: serving.join().unwrap(),
        }
    }

    fn sha256() -> String {
        bundle::hexadecimal(&Sha256::digest(CONTENT))
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
    fn redirects_stay_with_https() {
        for (next, objected) in [("https://example.org/x", false), ("http://example.org/x", true), ("file:///etc/shadow", true)] {
            assert_eq!(objection(true, 1, &next.parse().unwrap()).is_some(), objected, "{next}");
        }
    }
}
