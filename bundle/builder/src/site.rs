//! A web server for tests, which does with each request what its script says.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// What the server does with one request.
#[derive(Clone, Debug)]
pub enum Answer {
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

/// A server that runs until it is closed.
pub struct Site {
    pub address: String,
    closed: Arc<AtomicBool>,
    serving: JoinHandle<Vec<String>>,
}

/// What the server has, by path, and whom it lets see it.
pub struct Files {
    pub files: BTreeMap<String, Vec<u8>>,
    /// What lies below `/v2/` is for those who have fetched this from `/token`.
    pub token: Option<&'static str>,
}

/// Waits for what a client does.
pub fn block_on<T>(asked: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asked)
}

impl Site {
    /// A server that answers as its script says, and when that is at its end, as it is asked.
    pub fn open(files: Files, script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let closed = Arc::new(AtomicBool::new(false));
        let (host, is_closed) = (address.clone(), Arc::clone(&closed));
        let serving = thread::spawn(move || {
            let mut script = script.into_iter();
            let connections = listener.incoming().map(Result::unwrap).take_while(|_| !is_closed.load(Ordering::SeqCst));
            connections.map(|stream| files.serve(&stream, &host, &script.next().unwrap_or(Answer::Serve))).collect()
        });
        Self { address: format!("http://{address}"), closed, serving }
    }

    /// The paths and ranges that were asked for.
    pub fn close(self) -> Vec<String> {
        self.closed.store(true, Ordering::SeqCst);
        // The server looks up when somebody comes.
        TcpStream::connect(self.address.trim_start_matches("http://")).unwrap();
        self.serving.join().unwrap()
    }
}

impl Files {
    fn serve(&self, mut stream: &TcpStream, host: &str, answer: &Answer) -> String {
        let lines: Vec<_> = BufReader::new(stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let path = lines[0].split(' ').nth(1).unwrap();
        let header = |name: &str| {
            let named = |line: &String| line.to_lowercase().strip_prefix(&format!("{name}: ")).map(str::to_owned);
            lines.iter().find_map(named)
        };
        let start = header("range").map(|range| range["bytes=".len()..].trim_end_matches('-').parse::<usize>().unwrap());
        let (head, body) = self.answer(path, header("authorization").as_deref(), start, host, answer);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"connection: close\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        start.map_or(path.to_owned(), |start| format!("{path} from {start}"))
    }

    fn answer(
        &self,
        path: &str,
        authorization: Option<&str>,
        start: Option<usize>,
        host: &str,
        answer: &Answer,
    ) -> (String, &[u8]) {
        let head = |status: &str, length: usize| format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n");
        match answer {
            Answer::Status(status) => return (head(&format!("{status} No"), 0), &[]),
            Answer::Redirect(path) => return (head("302 Found", 0) + &format!("location: {path}\r\n"), &[]),
            Answer::Serve | Answer::Cut(_) | Answer::Whole => {}
        }
        if let Some(token) = self.token
            && path.starts_with("/v2/")
            && authorization != Some(&format!("bearer {token}"))
        {
            let challenge = format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"registry\"\r\n");
            return (head("401 Unauthorized", 0) + &challenge, &[]);
        }
        let Some(content) = self.files.get(path) else { return (head("404 Not Found", 0), &[]) };
        let length = content.len();
        let (head, rest) = match start {
            Some(from) if !matches!(answer, Answer::Whole) && from >= length => {
                return (head("416 Range Not Satisfiable", 0) + &format!("content-range: bytes */{length}\r\n"), &[]);
            }
            Some(from) if !matches!(answer, Answer::Whole) => {
                let range = format!("content-range: bytes {from}-{}/{length}\r\n", length - 1);
                (head("206 Partial Content", length - from) + &range, &content[from..])
            }
            _ => (head("200 OK", length), content.as_slice()),
        };
        (head, if let Answer::Cut(sent) = answer { &rest[..*sent] } else { rest })
    }
}
