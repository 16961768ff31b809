//! Container images of registries, packed into archives that container runtimes import.

mod token;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Error,
    definition::PulledImage,
    fetch::{Downloads, beside},
    reference::{ContentDigest, Reference},
    tools::run,
};
use token::authorization;

/// The kinds of manifests that are understood. A registry answers with another kind only if it has no other.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// What a manifest is that does not say what it is.
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Reference {
    fn address(&self, downloads: &Downloads, what: &str) -> String {
        format!("{}://{}/v2/{}/{what}", downloads.scheme(), self.registry, self.repository)
    }
}

/// An image as its registry has it for one architecture.
pub struct Image {
    pub reference: Reference,
    /// Of what the reference stands for: the image itself, or the list of the same for several architectures.
    digest: ContentDigest,
    manifest: ContentDigest,
    manifest_text: String,
    media_type: String,
    /// The configuration and the layers.
    blobs: Vec<ContentDigest>,
    /// Shows the registry what it demands to see.
    downloads: Downloads,
}

/// A manifest of an image, or a list of such.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    media_type: Option<String>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: ContentDigest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

impl Image {
    /// Asks the registry what the image consists of.
    pub async fn find(downloads: &Downloads, wanted: &PulledImage, architecture: &str) -> Result<Self, Error> {
        let reference = wanted.reference.clone();
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization(downloads, &reference).await? {
            headers.insert(AUTHORIZATION, authorization);
        }
        let downloads = downloads.with_headers(headers.clone());
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        let manifests = downloads.with_headers(headers);

        let named = wanted.digest.as_ref().map_or_else(|| reference.tag.clone(), ToString::to_string);
        let url = reference.address(&downloads, &format!("manifests/{named}"));
        let mut text = manifests.text(&url).await?;
        let digest = ContentDigest::of(&text);
        if let Some(pinned) = &wanted.digest {
            verify(&url, &text, pinned)?;
        }
        let mut parsed = parse(&url, &text)?;
        if let Some(only) = choose(&parsed, architecture).map_err(|problem| unexpected(&url, problem))? {
            let url = reference.address(&downloads, &format!("manifests/{only}"));
            text = manifests.text(&url).await?;
            verify(&url, &text, only)?;
            parsed = parse(&url, &text)?;
        }
        let Some(config) = parsed.config else { return Err(unexpected(&url, "it is no manifest of an image".into())) };
        Ok(Self {
            reference,
            digest,
            manifest: ContentDigest::of(&text),
            manifest_text: text,
            media_type: parsed.media_type.unwrap_or_else(|| OCI_MANIFEST.to_owned()),
            blobs: [config].into_iter().chain(parsed.layers).map(|blob| blob.digest).collect(),
            downloads,
        })
    }

    /// What the image was made from: its repository, and the digest there.
    pub fn origin(&self) -> String {
        format!("{}/{}@{}", self.reference.registry, self.reference.repository, self.digest)
    }

    /// Brings what the image consists of, where it is not there already.
    async fn fetch(&self, layout: &Path) -> Result<(), Error> {
        for blob in &self.blobs {
            let url = self.reference.address(&self.downloads, &format!("blobs/{blob}"));
            self.downloads.file(&url, blob.digits(), &layout.join(blob.path())).await?;
        }
        let manifest = layout.join(self.manifest.path());
        fs::write(&manifest, &self.manifest_text).map_err(Error::at(&manifest))
    }

    /// How an index lists the image. containerd gives an image the first of these names.
    fn listed(&self) -> serde_json::Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.manifest,
            "size": self.manifest_text.len(),
            "annotations": {
                "io.containerd.image.name": self.reference.to_string(),
                "org.opencontainers.image.ref.name": self.reference.tag,
            },
        })
    }
}

/// Downloads these images and packs them, as an OCI layout. What was downloaded is kept until the archive is whole.
pub async fn pull(images: &[Image], archive: &Path) -> Result<(), Error> {
    let layout = beside(archive, "layout");
    for image in images {
        image.fetch(&layout).await?;
    }
    let index = json!({"schemaVersion": 2, "manifests": images.iter().map(Image::listed).collect::<Vec<_>>()});
    for (name, content) in [("oci-layout", json!({"imageLayoutVersion": "1.0.0"})), ("index.json", index)] {
        let path = layout.join(name);
        fs::write(&path, content.to_string()).map_err(Error::at(&path))?;
    }
    // Images share layers.
    let blobs = images.iter().flat_map(|image| image.blobs.iter().chain([&image.manifest]));
    let blobs: BTreeSet<_> = blobs.map(ContentDigest::path).collect();
    let unfinished = beside(archive, "partial");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=0644", "--file"]).arg(&unfinished);
    run(tar.arg("--directory").arg(&layout).args(["oci-layout", "index.json"]).args(blobs))?;
    fs::rename(&unfinished, archive).map_err(Error::at(archive))?;
    fs::remove_dir_all(&layout).map_err(Error::at(&layout))
}

fn verify(url: &str, content: &str, expected: &ContentDigest) -> Result<(), Error> {
    match ContentDigest::of(content) {
        actual if actual == *expected => Ok(()),
        actual => {
            Err(Error::Digest { url: url.to_owned(), expected: expected.digits().to_owned(), actual: actual.digits().to_owned() })
        }
    }
}

fn parse(url: &str, manifest: &str) -> Result<Manifest, Error> {
    serde_json::from_str(manifest).map_err(|error| unexpected(url, error.to_string()))
}

/// The image for an architecture, if this is a list.
fn choose<'m>(manifest: &'m Manifest, architecture: &str) -> Result<Option<&'m ContentDigest>, String> {
    let list = &manifest.manifests;
    if list.is_empty() {
        return Ok(None);
    }
    let runs = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture;
    let chosen = list.iter().find(|listed| listed.platform.as_ref().is_some_and(runs));
    chosen.map(|listed| Some(&listed.digest)).ok_or_else(|| format!("it lists no image for linux on {architecture}"))
}

fn unexpected(url: &str, problem: String) -> Error {
    Error::Unexpected { url: url.to_owned(), problem }
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use converge::Explain as _;

    use super::{
        super::site::{Answer, Files, Site, block_on},
        *,
    };

    const CONFIG: &str = "{}";
    const LAYER: &str = "a layer that can be cut in two";

    fn sha256(content: &str) -> String {
        ContentDigest::of(content).to_string()
    }

    fn manifest(layer: &str) -> String {
        json!({"mediaType": "example/manifest", "config": {"digest": sha256(CONFIG)}, "layers": [{"digest": sha256(layer)}]})
            .to_string()
    }

    /// A list as registries have it: with what is no image, and with another architecture.
    fn list(manifest: &str) -> String {
        let listed = |os: &str, architecture: &str, digest: String| json!({"digest": digest, "platform": {"os": os, "architecture": architecture}});
        let others = [listed("unknown", "unknown", sha256("attestation")), listed("linux", "arm64", sha256("arm64"))];
        let manifests = [others[0].clone(), others[1].clone(), listed("linux", "amd64", sha256(manifest))];
        json!({"schemaVersion": 2, "manifests": manifests}).to_string()
    }

    /// What a registry has of an image with one layer.
    pub fn image(tag: &str, layer: &str) -> BTreeMap<String, Vec<u8>> {
        let manifest = manifest(layer);
        let list = list(&manifest);
        let token = r#"{"access_token": "t0ken", "token": "t0ken"}"#;
        let files = [
            (String::new(), ""),
            (format!("lab/tool/manifests/{tag}"), list.as_str()),
            (format!("lab/tool/manifests/{}", sha256(&list)), &list),
            (format!("lab/tool/manifests/{}", sha256(&manifest)), &manifest),
            (format!("lab/tool/blobs/{}", sha256(CONFIG)), CONFIG),
            (format!("lab/tool/blobs/{}", sha256(layer)), layer),
        ];
        let mut files: BTreeMap<_, _> =
            files.into_iter().map(|(path, content)| (format!("/v2/{path}"), content.as_bytes().to_vec())).collect();
        files.insert("/token?service=registry&scope=repository%3Alab%2Ftool%3Apull".into(), token.into());
        files
    }

    pub fn wanted(site: &Site, tag: &str) -> PulledImage {
        let reference = format!("{}/lab/tool:{tag}", site.address.trim_start_matches("http://"));
        PulledImage { reference: reference.try_into().unwrap(), digest: None }
    }

    struct Pulled {
        outcome: Result<(), Error>,
        /// By their names in the layout.
        archive: Option<BTreeMap<String, String>>,
        requests: Vec<String>,
    }

    /// Pulls an image out of a registry into a folder.
    fn pull_from(files: Files, script: Vec<Answer>, pin: Option<&str>, folder: &Path) -> Pulled {
        let site = Site::open(files, script);
        let pin = pin.map(|digest| digest.to_owned().try_into().unwrap());
        let wanted = PulledImage { digest: pin, ..wanted(&site, "v1") };
        let path = folder.join("images/tools.tar");
        let outcome = block_on(async {
            let image = Image::find(&Downloads::for_tests(), &wanted, "amd64").await?;
            pull(&[image], &path).await
        });
        let manifest = manifest(LAYER);
        let list = list(&manifest);
        let names = [("list", list.as_str()), ("manifest", &manifest), ("config", CONFIG), ("layer", LAYER)];
        let short = |request: String| {
            let request = request.replace("/v2/lab/tool/", "");
            names.iter().fold(request, |request, (name, content)| request.replace(&sha256(content), name))
        };
        Pulled { outcome, archive: path.exists().then(|| unpack(&path)), requests: site.close().into_iter().map(short).collect() }
    }

    fn unpack(archive: &Path) -> BTreeMap<String, String> {
        let members = run(Command::new("tar").arg("--list").arg("--file").arg(archive)).unwrap();
        let content = |member: &str| run(Command::new("tar").args(["--extract", "--to-stdout", "--file"]).arg(archive).arg(member));
        members.lines().map(|member| (member.to_owned(), content(member).unwrap())).collect()
    }

    fn open(files: BTreeMap<String, Vec<u8>>) -> Files {
        Files { files, token: None }
    }

    #[test]
    fn what_a_registry_has_is_packed() {
        use Answer::{Cut, Redirect, Serve, Status};
        let tag = "manifests/v1";
        let rest = ["manifests/manifest", "blobs/config", "blobs/layer"];
        let whole = |first: &[&'static str]| [first, &rest].concat();
        let token = "/token?service=registry&scope=repository%3Alab%2Ftool%3Apull";
        let pin = sha256(&list(&manifest(LAYER)));
        for (case, guard, pin, script, requests) in [
            ("for everybody", None, None, vec![], whole(&["/v2/", tag])),
            ("with a token", Some("t0ken"), None, vec![], whole(&["/v2/", token, tag])),
            ("by its digest", None, Some(pin.as_str()), vec![], whole(&["/v2/", "manifests/list"])),
            (
                "after server errors",
                None,
                None,
                vec![Status(502), Serve, Status(503), Serve, Status(429), Serve, Status(500)],
                vec!["/v2/", "/v2/", tag, tag, rest[0], rest[0], rest[1], rest[1], rest[2]],
            ),
            (
                "cut twice",
                Some("t0ken"),
                None,
                vec![Serve, Serve, Serve, Cut(10), Serve, Serve, Cut(10), Cut(10)],
                vec!["/v2/", token, tag, rest[0], rest[0], rest[1], rest[2], "blobs/layer from 10", "blobs/layer from 20"],
            ),
            (
                "from elsewhere",
                Some("t0ken"),
                None,
                vec![Serve, Serve, Serve, Serve, Serve, Redirect("/elsewhere")],
                whole(&["/v2/", token, tag]).into_iter().chain(["/elsewhere"]).collect(),
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut files = image("v1", LAYER);
            files.insert("/elsewhere".into(), LAYER.into());
            let pulled = pull_from(Files { files, token: guard }, script, pin, folder.path());
            assert!(pulled.outcome.is_ok(), "{case}: {:?}", pulled.outcome);
            assert_eq!(pulled.requests, requests, "{case}");
            let archive = pulled.archive.unwrap();
            let index: serde_json::Value = serde_json::from_str(&archive["index.json"]).unwrap();
            let listed = &index["manifests"][0];
            let name = listed["annotations"]["io.containerd.image.name"].as_str().unwrap();
            assert!(name.starts_with("127.0.0.1:") && name.ends_with("/lab/tool:v1"), "{case}: {name}");
            let manifest = manifest(LAYER);
            assert_eq!((&listed["digest"], &listed["size"]), (&json!(sha256(&manifest)), &json!(manifest.len())), "{case}");
            assert_eq!(listed["mediaType"], "example/manifest");
            for blob in [&manifest, CONFIG, LAYER] {
                assert_eq!(archive[&ContentDigest::of(blob).path()], blob, "{case}");
            }
            assert_eq!((archive["oci-layout"].as_str(), archive.len()), (r#"{"imageLayoutVersion":"1.0.0"}"#, 5), "{case}");
            let left: Vec<_> = fs::read_dir(folder.path().join("images")).unwrap().map(|left| left.unwrap().file_name()).collect();
            assert_eq!(left, ["tools.tar"], "{case}");
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_not_packed() {
        use Answer::{Redirect, Status};
        let paths = |content: &str| format!("/v2/lab/tool/manifests/{}", sha256(content));
        let manifest = manifest(LAYER);
        let with = |path: &str, content: &str| {
            let mut files = image("v1", LAYER);
            files.insert(path.to_owned(), content.into());
            files
        };
        let tag = "/v2/lab/tool/manifests/v1";
        let layer = format!("/v2/lab/tool/blobs/{}", sha256(LAYER));
        let outside = json!({"config": {"digest": "sha256:../../../../etc/passwd"}}).to_string();
        for (case, files, pin, script, code, words) in [
            ("no such image", image("v2", LAYER), None, vec![], "DOWNLOAD_STATUS", "manifests/v1 answers with status 404"),
            ("down for long", image("v1", LAYER), None, vec![Status(503); 5], "DOWNLOAD_STATUS", "503"),
            ("forbidden", image("v1", LAYER), None, vec![Status(403)], "DOWNLOAD_STATUS", "403"),
            (
                "another digest than pinned",
                image("v1", LAYER),
                Some("no such"),
                vec![Answer::Serve, Redirect(tag)],
                "CHECKSUM_MISMATCH",
                "manifests/",
            ),
            (
                "another digest than listed",
                with(&paths(&manifest), &format!("{manifest} ")),
                None,
                vec![],
                "CHECKSUM_MISMATCH",
                "manifests/",
            ),
            ("another layer", with(&layer, "another layer"), None, vec![], "CHECKSUM_MISMATCH", "blobs/"),
            ("no manifest", with(tag, "<html>Log in here</html>"), None, vec![], "DOWNLOAD_UNEXPECTED", "manifests/v1"),
            ("nothing in it", with(tag, "{}"), None, vec![], "DOWNLOAD_UNEXPECTED", "no manifest of an image"),
            ("another architecture", with(tag, &list("").replace("amd64", "s390x")), None, vec![], "DOWNLOAD_UNEXPECTED", "amd64"),
            ("a digest that leads elsewhere", with(tag, &outside), None, vec![], "DOWNLOAD_UNEXPECTED", "etc/passwd"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let pin = pin.map(sha256);
            let pulled = pull_from(open(files), script, pin.as_deref(), folder.path());
            let error = pulled.outcome.unwrap_err();
            assert_eq!(error.code(), code, "{case}: {error}");
            assert!(error.to_string().contains(words), "{case}: {error}");
            assert!(!error.hints().is_empty(), "{case}");
            assert_eq!(pulled.archive, None, "{case}");
        }
    }

    #[test]
    fn what_was_downloaded_is_kept_for_the_next_run() {
        use Answer::{Cut, Serve, Status};
        let folder = tempfile::tempdir().unwrap();
        let script = [vec![Serve; 4], vec![Cut(10)], vec![Status(503); 4]].concat();
        let broken = pull_from(open(image("v1", LAYER)), script, None, folder.path());
        assert_eq!(broken.outcome.unwrap_err().code(), "DOWNLOAD_STATUS");
        let pulled = pull_from(open(image("v1", LAYER)), Vec::new(), None, folder.path());
        assert!(pulled.outcome.is_ok(), "{:?}", pulled.outcome);
        assert_eq!(pulled.requests, ["/v2/", "manifests/v1", "manifests/manifest", "blobs/layer from 10"]);
    }
}
