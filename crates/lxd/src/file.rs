//! Files inside instances. A file is sent under another name and gets its own when it is whole.

use std::path::Path;

use reqwest::{Body, Method, StatusCode, header::HeaderMap};
use tokio::{fs::File, sync::Mutex};
use tokio_util::io::ReaderStream;

use crate::{Client, Error, Exec, exchange::Reply};

/// The headers that tell and set what a file is like begin with the server's name.
const PREFIXES: [&str; 2] = ["X-LXD", "X-Incus"];

/// How much of a file is read at a time. Each costs a change of threads.
const CHUNK: usize = 1 << 20;

/// Held while a file of an instance is asked for, by whichever client of the process: side by side, LXD 5.0 now and then answers one
/// such request after three minutes only.
static ASKING: Mutex<()> = Mutex::const_new(());

/// The kind of a file inside an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file with content.
    File,
    /// A folder.
    Directory,
    /// A link, whose content is where it leads to.
    Symlink,
}

/// What a file inside an instance is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its kind.
    pub kind: FileKind,
    /// The number of the user who owns it, as the instance counts.
    pub user: u32,
    /// The number of its group.
    pub group: u32,
    /// Its permissions.
    pub mode: u32,
    /// When it was changed last, to the second, in a form that sorts by time.
    pub modified: String,
}

/// What a new file inside an instance is to hold.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// What a file of the host holds; it is sent as it is read.
    File(&'a Path),
}

/// A file that is complete inside an instance and does not have its name yet.
#[derive(Debug)]
pub struct StagedFile<'a> {
    client: &'a Client,
    instance: &'a str,
    path: String,
    staged: String,
}

impl Client {
    /// What a path inside an instance is like; nothing if there is nothing.
    pub async fn stat_file(&self, instance: &str, path: &str) -> Result<Option<FileInfo>, Error> {
        let answer = self.file(Method::HEAD, instance, path, &[], Body::default()).await?;
        Ok(answer.map(|reply| FileInfo::of(&reply.headers)))
    }

    /// A file inside an instance with its content; nothing if there is none.
    pub async fn read_file(&self, instance: &str, path: &str) -> Result<Option<(FileInfo, Vec<u8>)>, Error> {
        let answer = self.file(Method::GET, instance, path, &[], Body::default()).await?;
        Ok(answer.map(|reply| (FileInfo::of(&reply.headers), reply.body)))
    }

    /// Removes a file inside an instance; that it is not there is as good.
    pub async fn delete_file(&self, instance: &str, path: &str) -> Result<(), Error> {
        self.file(Method::DELETE, instance, path, &[], Body::default()).await.map(drop)
    }

    /// Begins a file of root's inside an instance, and the folders on the way to it. It appears whole or not at all, and nobody
    /// else reads it in between.
    pub async fn stage_file<'a>(
        &'a self,
        instance: &'a str,
        path: &str,
        mode: u32,
        source: Source<'_>,
    ) -> Result<StagedFile<'a>, Error> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.make_folders(instance, folder).await?;
        let staged = format!("{folder}/.k8slab-{name}");
        // The mode of a file that exists is not changed by writing it, and that of a new one only once it is written.
        self.delete_file(instance, &staged).await?;
        let attributes = attributes("file", mode);
        self.file(Method::POST, instance, &staged, &attributes, Body::default()).await?;
        let body = match source {
            Source::Bytes(bytes) => Body::from(bytes.to_vec()),
            Source::File(path) => {
                let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
                let file = File::open(path).await.map_err(unreadable)?;
                Body::wrap_stream(ReaderStream::with_capacity(file, CHUNK))
            }
        };
        self.file(Method::POST, instance, &staged, &attributes, body).await?;
        Ok(StagedFile { client: self, instance, path: path.to_owned(), staged })
    }

    /// Writes a file of root's into an instance that does not run, and the folders on the way to it.
    pub async fn create_file(&self, instance: &str, path: &str, mode: u32, content: &[u8]) -> Result<(), Error> {
        self.make_folders(instance, path.rsplit_once('/').unwrap_or_default().0).await?;
        self.file(Method::POST, instance, path, &attributes("file", mode), Body::from(content.to_vec())).await.map(drop)
    }

    async fn make_folders(&self, instance: &str, folder: &str) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut rest = folder;
        while !rest.is_empty() && self.stat_file(instance, rest).await?.is_none() {
            missing.push(rest);
            rest = rest.rsplit_once('/').map_or("", |(above, _)| above);
        }
        for folder in missing.into_iter().rev() {
            self.file(Method::POST, instance, folder, &attributes("directory", 0o755), Body::default()).await?;
        }
        Ok(())
    }

    /// An answer that is a file and no envelope; nothing when there is no such file.
    pub(crate) async fn raw(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let request = format!("GET /1.0/{}", path.trim_start_matches("/1.0/"));
        let reply = self.exchange(&request, self.http().get(self.url(path)?), self.limits().transfer).await?;
        Ok(found(&request, reply)?.map(|reply| reply.body))
    }

    async fn file(
        &self,
        method: Method,
        instance: &str,
        path: &str,
        attributes: &[(&str, String)],
        body: Body,
    ) -> Result<Option<Reply>, Error> {
        let mut url = self.url(&format!("instances/{instance}/files"))?;
        url.query_pairs_mut().append_pair("path", path);
        let request = format!("{method} /1.0/instances/{instance}/files?path={path}");
        let mut call = self.http().request(method.clone(), url).body(body);
        for prefix in PREFIXES {
            call = attributes.iter().fold(call, |call, (key, value)| call.header(format!("{prefix}-{key}"), value));
        }
        let _alone = ASKING.lock().await;
        let reply = self.exchange(&request, call, self.limits().transfer).await?;
        match found(&request, reply)? {
            // Where a file is to be written, the folder must be there.
            None if method == Method::POST => {
                Err(Error::Refused { request, status: 404, message: "the folder of the file is not there".into() })
            }
            answer => Ok(answer),
        }
    }
}

impl StagedFile<'_> {
    /// Where it is until then.
    #[must_use]
    pub fn staged(&self) -> &str {
        &self.staged
    }

    /// What the file is like, which its name does not change.
    pub async fn stat(&self) -> Result<Option<FileInfo>, Error> {
        self.client.stat_file(self.instance, &self.staged).await
    }

    /// Gives the file its name.
    pub async fn publish(self) -> Result<(), Error> {
        let moved = self.client.exec(self.instance, &["mv", "-f", "-T", &self.staged, &self.path]).await?;
        self.moved(&moved).await
    }

    /// Gives the file its name, and then one that says something of it.
    pub async fn publish_with(self, about: Self) -> Result<(), Error> {
        let script = r#"mv -f -T "$1" "$2" && mv -f -T "$3" "$4""#;
        let command = ["sh", "-c", script, "publish", &self.staged, &self.path, &about.staged, &about.path];
        let moved = self.client.exec(self.instance, &command).await?;
        self.moved(&moved).await
    }

    async fn moved(&self, answer: &Exec) -> Result<(), Error> {
        if answer.code == 0 {
            return Ok(());
        }
        let request = format!("mv to {} in {}", self.path, self.instance);
        if self.stat().await?.is_none() {
            // Another run has moved it, or what one that was killed left to LXD.
            return Err(Error::Conflict { request });
        }
        Err(Error::Failed { request, message: answer.stderr.trim().to_owned() })
    }
}

impl FileInfo {
    fn of(headers: &HeaderMap) -> Self {
        let text = |key: &str| {
            let mut values = PREFIXES.iter().filter_map(|prefix| headers.get(format!("{prefix}-{key}"))?.to_str().ok());
            values.next().unwrap_or_default()
        };
        let kind = match text("type") {
            "directory" => FileKind::Directory,
            "symlink" => FileKind::Symlink,
            _ => FileKind::File,
        };
        Self {
            kind,
            user: text("uid").parse().unwrap_or_default(),
            group: text("gid").parse().unwrap_or_default(),
            mode: u32::from_str_radix(text("mode"), 8).unwrap_or_default(),
            modified: text("modified").to_owned(),
        }
    }
}

fn attributes(kind: &str, mode: u32) -> [(&'static str, String); 5] {
    [
        ("type", kind.to_owned()),
        ("mode", format!("{mode:04o}")),
        ("uid", "0".to_owned()),
        ("gid", "0".to_owned()),
        ("write", "overwrite".to_owned()),
    ]
}

/// The answer unless it is a refusal; nothing when it is that there is no such thing.
fn found(request: &str, reply: Reply) -> Result<Option<Reply>, Error> {
    match reply.status {
        status if status.is_success() => Ok(Some(reply)),
        StatusCode::NOT_FOUND => Ok(None),
        status => {
            let message = reply.reason().unwrap_or_else(|| "no reason given".into());
            Err(Error::Refused { request: request.to_owned(), status: status.as_u16(), message })
        }
    }
}
