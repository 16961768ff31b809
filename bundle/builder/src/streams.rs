//! LXD images of image servers, which list them as simplestreams do.

use std::{collections::BTreeMap, fs, path::Path};

use bundle::{Entry, Role};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Error, definition::PublishedInstance, fetch::Downloads, files};

/// Where a server says what lists it has.
const INDEX: &str = "streams/v1/index.json";

/// How servers call an image in one file, and the parts of one in two. What Incus and LXD read is the same.
const WHOLE: [&str; 2] = ["lxd_combined.tar.gz", "incus_combined.tar.gz"];
const METADATA: [&str; 2] = ["lxd.tar.xz", "incus.tar.xz"];
const ROOTFS: [&str; 1] = ["squashfs"];

#[derive(Deserialize)]
struct Index {
    index: BTreeMap<String, List>,
}

#[derive(Deserialize)]
struct List {
    datatype: String,
    path: String,
}

#[derive(Deserialize)]
struct Products {
    products: BTreeMap<String, Product>,
}

#[derive(Deserialize)]
struct Product {
    /// Separated by commas.
    #[serde(default)]
    aliases: String,
    arch: String,
    /// By the times at which they were made, so that the last is the newest.
    versions: BTreeMap<String, Version>,
}

#[derive(Deserialize)]
struct Version {
    items: BTreeMap<String, Item>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Item {
    ftype: String,
    path: String,
    /// Not everything that a server has is an image: some of it has other digests, or none.
    #[serde(default)]
    sha256: String,
    /// On metadata: how LXD calls the image that they make with the root filesystem.
    combined_squashfs_sha256: Option<String>,
}

/// An image that a server has.
#[derive(Debug, PartialEq, Eq)]
struct Found<'p> {
    fingerprint: &'p str,
    /// The whole, if there are no metadata beside it.
    rootfs: &'p Item,
    metadata: Option<&'p Item>,
}

/// Downloads an image, in the files in which its server has it.
pub async fn fetch(downloads: &Downloads, wanted: &PublishedInstance, bundle: &Path) -> Result<Vec<Entry>, Error> {
    let index: Index = read(downloads, wanted, INDEX).await?;
    let mut products = Vec::new();
    for list in index.index.values().filter(|list| list.datatype == "image-downloads") {
        let listed: Products = read(downloads, wanted, &list.path).await?;
        products.extend(listed.products.into_values());
    }
    let found = choose(&products, wanted).map_err(|published| Error::NotPublished {
        server: wanted.server.clone(),
        image: wanted.to_string(),
        published,
    })?;

    let folder = wanted.folder();
    let mut entries = Vec::new();
    let rootfs = if found.metadata.is_some() { "rootfs.squashfs" } else { "image.tar.gz" };
    let metadata = found.metadata.map(|item| (Role::InstanceMetadata, "metadata.tar.xz", item));
    for (role, name, item) in metadata.into_iter().chain([(Role::InstanceImage, rootfs, found.rootfs)]) {
        let (path, origin) = (format!("{folder}/{name}"), wanted.address(&item.path));
        downloads.file(&origin, &item.sha256, &bundle.join(&path)).await?;
        entries.push(Entry {
            path,
            role,
            name: wanted.alias.clone(),
            version: wanted.version.clone(),
            architecture: Some(wanted.architecture.clone()),
            origin,
            sha256: item.sha256.clone(),
            standin: false,
            differs: None,
            images: Vec::new(),
            fingerprint: (role == Role::InstanceImage).then(|| found.fingerprint.to_owned()),
        });
    }
    let files: Vec<_> = entries.iter().map(|entry| bundle.join(&entry.path)).collect();
    let actual = files::digest(&files)?;
    if actual != found.fingerprint {
        for file in &files {
            fs::remove_file(file).map_err(Error::at(file))?;
        }
        let (url, expected) = (wanted.address(&found.rootfs.path), found.fingerprint.to_owned());
        return Err(Error::Fingerprint { url, expected, actual });
    }
    Ok(entries)
}

impl PublishedInstance {
    fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.server.trim_end_matches('/'))
    }
}

async fn read<T: DeserializeOwned>(downloads: &Downloads, wanted: &PublishedInstance, path: &str) -> Result<T, Error> {
    let url = wanted.address(path);
    let text = downloads.text(&url).await?;
    serde_json::from_str(&text).map_err(|error| Error::Unexpected { url, problem: error.to_string() })
}

/// The newest image of the wanted name, or the one with the wanted fingerprint. Fails with what there is instead.
fn choose<'p>(products: &'p [Product], wanted: &PublishedInstance) -> Result<Found<'p>, Vec<String>> {
    let ours = || products.iter().filter(|product| product.arch == wanted.architecture);
    let named = ours().filter(|product| product.aliases().any(|alias| alias == wanted.image));
    let mut images: Vec<_> = named.flat_map(|product| product.versions.values().rev()).filter_map(Version::image).collect();
    if let Some(pinned) = &wanted.fingerprint {
        let found = images.iter().position(|image| image.fingerprint == pinned);
        return match found {
            Some(found) => Ok(images.swap_remove(found)),
            None => Err(images.iter().map(|image| image.fingerprint.to_owned()).collect()),
        };
    }
    if images.is_empty() {
        // Of the same kind: some servers have a thousand others.
        let kind = wanted.image.split('/').next().unwrap_or_default();
        let alike = |alias: &&str| alias.split('/').next() == Some(kind);
        return Err(ours().flat_map(Product::aliases).filter(alike).map(str::to_owned).collect());
    }
    Ok(images.swap_remove(0))
}

impl Product {
    fn aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.split(',').map(str::trim).filter(|alias| !alias.is_empty())
    }
}

impl Version {
    /// The container that it has; it may have a virtual machine alone.
    fn image(&self) -> Option<Found<'_>> {
        let item = |kinds: &[&str]| kinds.iter().find_map(|kind| self.items.values().find(|item| item.ftype == *kind));
        if let Some(whole) = item(&WHOLE) {
            return Some(Found { fingerprint: &whole.sha256, rootfs: whole, metadata: None });
        }
        let (metadata, rootfs) = (item(&METADATA)?, item(&ROOTFS)?);
        let fingerprint = metadata.combined_squashfs_sha256.as_deref()?;
        Some(Found { fingerprint, rootfs, metadata: Some(metadata) })
    }
}

#[cfg(test)]
mod tests {
    use converge::Explain as _;
    use data_encoding::HEXLOWER;
    use serde_json::{Value, json};
    use sha2::{Digest as _, Sha256};

    use super::{
        super::site::{Answer, Files, Site, block_on},
        *,
    };

    fn sha256(content: &str) -> String {
        HEXLOWER.encode(&Sha256::digest(content))
    }

    fn item(kind: &str, content: &str) -> Value {
        json!({"ftype": kind, "path": format!("images/{content}"), "sha256": sha256(content), "size": content.len()})
    }

    /// A build in two files, as the images of distributions are.
    fn parts(metadata: &str, rootfs: &str) -> Value {
        let mut listed = item("incus.tar.xz", metadata);
        listed["combined_squashfs_sha256"] = json!(sha256(&[metadata, rootfs].concat()));
        json!({"items": {"incus.tar.xz": listed, "root.tar.xz": item("root.tar.xz", "x"), "root.squashfs": item("squashfs", rootfs)}})
    }

    /// A build in one file, listed for both servers that can read it, as nodes' images are.
    fn whole(content: &str) -> Value {
        let listed = |kind: &str| (kind.to_owned(), item(kind, content));
        json!({"items": Value::from_iter([listed("incus_combined.tar.gz"), listed("lxd_combined.tar.gz")])})
    }

    /// A build that is a virtual machine.
    fn machine(content: &str) -> Value {
        let mut listed = item("lxd.tar.xz", content);
        listed["combined_disk1-img_sha256"] = json!("00");
        json!({"items": {"lxd.tar.xz": listed, "disk1.img": item("disk1.img", "y")}})
    }

    fn products() -> Value {
        json!({
            "debian:bookworm:amd64:cloud": {
                "aliases": "debian/bookworm/cloud,debian/12/cloud",
                "arch": "amd64",
                "versions": {"20261119_05:24": parts("old metadata", "old rootfs"), "20261120_05:24": parts("metadata", "rootfs")},
            },
            "debian:bookworm:arm64:cloud": {
                "aliases": "debian/bookworm/cloud, debian/12/cloud",
                "arch": "arm64",
                "versions": {"20261120_05:24": parts("arm64 metadata", "arm64 rootfs")},
            },
            "kubeadm:v1.35.0:ubuntu:amd64": {
                "aliases": "kubeadm/v1.35.0,kubeadm/v1.35.0/ubuntu",
                "arch": "amd64",
                "versions": {"202601010000": whole("node"), "202601010001": machine("machine")},
            },
            "kubeadm:v1.34.0:ubuntu:amd64": {"aliases": "kubeadm/v1.34.0", "arch": "amd64", "versions": {"1": machine("machine")}},
        })
    }

    fn wanted(image: &str, architecture: &str, fingerprint: Option<String>) -> PublishedInstance {
        let (alias, version, server) = ("lab/image".into(), "v1".into(), "https://images.example/capn/".into());
        PublishedInstance { alias, version, architecture: architecture.into(), server, image: image.into(), fingerprint }
    }

    #[test]
    fn the_newest_container_is_chosen_or_the_pinned_one() {
        let Products { products } = serde_json::from_value(json!({"products": products()})).unwrap();
        let products: Vec<_> = products.into_values().collect();
        let aliases = &["debian/bookworm/cloud", "debian/12/cloud"][..];
        let nodes = &["kubeadm/v1.34.0", "kubeadm/v1.35.0", "kubeadm/v1.35.0/ubuntu"][..];
        let (old, new) = (sha256("old metadataold rootfs"), sha256("metadatarootfs"));
        let builds = [new.as_str(), old.as_str()];
        for (image, architecture, pinned, expected) in [
            ("debian/12/cloud", "amd64", None, Ok(("images/rootfs", Some("images/metadata")))),
            ("debian/12/cloud", "arm64", None, Ok(("images/arm64 rootfs", Some("images/arm64 metadata")))),
            ("debian/12/cloud", "amd64", Some(old.clone()), Ok(("images/old rootfs", Some("images/old metadata")))),
            ("debian/12/cloud", "amd64", Some("00".repeat(32)), Err(&builds[..])),
            ("debian/12/cloud", "s390x", None, Err(&[][..])),
            ("debian/13/cloud", "amd64", None, Err(aliases)),
            ("kubeadm/v1.35.0", "amd64", None, Ok(("images/node", None))),
            ("kubeadm/v1.35.0", "amd64", Some(sha256("node")), Ok(("images/node", None))),
            ("kubeadm/v1.34.0", "amd64", None, Err(nodes)),
            ("kubeadm/v1.34", "amd64", None, Err(nodes)),
        ] {
            let chosen = choose(&products, &wanted(image, architecture, pinned));
            let chosen = chosen.map(|found| (found.rootfs.path.clone(), found.metadata.map(|item| item.path.clone())));
            let expected = expected.map(|(rootfs, metadata)| (rootfs.to_owned(), metadata.map(str::to_owned)));
            assert_eq!(
                chosen,
                expected.map_err(|others| others.iter().map(ToString::to_string).collect()),
                "{image} {architecture}"
            );
        }
    }

    struct Fetched {
        outcome: Result<Vec<Entry>, Error>,
        /// What lies in the image's folder, by name.
        files: BTreeMap<String, String>,
        requests: Vec<String>,
    }

    /// Fetches from a server with these products.
    fn fetch_from(products: &Value, script: Vec<Answer>, image: &str, folder: &Path) -> Fetched {
        let lists = json!({"format": "index:1.0", "index": {
            "images": {"datatype": "image-downloads", "path": "streams/v1/images.json", "format": "products:1.0"},
            "ids": {"datatype": "image-ids", "path": "streams/v1/ids.json"},
        }});
        let mut files: BTreeMap<_, _> =
            ["metadata", "rootfs", "node"].map(|content| (format!("/capn/images/{content}"), content.into())).into();
        files.insert("/capn/streams/v1/index.json".into(), lists.to_string().into());
        files.insert("/capn/streams/v1/images.json".into(), json!({"products": products}).to_string().into());
        let site = Site::open(Files { files, token: None }, script);
        let wanted = PublishedInstance { server: format!("{}/capn", site.address), ..wanted(image, "amd64", None) };
        let outcome = block_on(fetch(&Downloads::for_tests(), &wanted, folder));
        let there = fs::read_dir(folder.join("instances/lab-image")).into_iter().flatten().map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap())
        });
        let files = there.collect();
        let requests = site.close().into_iter().map(|request| request.replace("/capn/", "")).collect();
        Fetched { outcome, files, requests }
    }

    #[test]
    fn images_come_in_one_file_or_in_two() {
        use Answer::{Cut, Serve, Status};
        let lists = ["streams/v1/index.json", "streams/v1/images.json"];
        let both = [("metadata.tar.xz", "metadata"), ("rootfs.squashfs", "rootfs")];
        let one = [("image.tar.gz", "node")];
        for (case, image, script, requests, files) in [
            ("in two", "debian/12/cloud", vec![], vec![lists[0], lists[1], "images/metadata", "images/rootfs"], &both[..]),
            ("in one", "kubeadm/v1.35.0", vec![], vec![lists[0], lists[1], "images/node"], &one),
            (
                "with trouble",
                "debian/12/cloud",
                vec![Status(503), Serve, Cut(10), Serve, Cut(3), Serve, Cut(2)],
                vec![
                    lists[0],
                    lists[0],
                    lists[1],
                    lists[1],
                    "images/metadata",
                    "images/metadata from 3",
                    "images/rootfs",
                    "images/rootfs from 2",
                ],
                &both,
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let fetched = fetch_from(&products(), script, image, folder.path());
            let entries = fetched.outcome.unwrap();
            assert_eq!(fetched.requests, requests, "{case}");
            let expected: BTreeMap<_, _> =
                files.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect();
            assert_eq!(fetched.files, expected, "{case}");
            let (rootfs, metadata) = entries.split_last().unwrap();
            let contents: String = files.iter().map(|(_, content)| *content).collect();
            assert_eq!(
                (rootfs.role, rootfs.fingerprint.as_deref()),
                (Role::InstanceImage, Some(sha256(&contents).as_str())),
                "{case}"
            );
            assert!(metadata.iter().all(|entry| entry.role == Role::InstanceMetadata && entry.fingerprint.is_none()), "{case}");
            for (entry, (name, content)) in entries.iter().zip(files) {
                assert_eq!(
                    (entry.path.clone(), &entry.sha256),
                    (format!("instances/lab-image/{name}"), &sha256(content)),
                    "{case}"
                );
                assert!(entry.origin.ends_with(&format!("/capn/images/{content}")), "{case}: {}", entry.origin);
            }
            let again = fetch_from(&products(), Vec::new(), image, folder.path());
            assert_eq!(again.requests, lists, "{case}: what is there is not downloaded again");
        }
    }

    #[test]
    fn what_is_not_as_its_server_says_is_thrown_away() {
        let with = |pointer: &str, value: &str| {
            let mut products = products();
            *products.pointer_mut(pointer).unwrap() = json!(value);
            products
        };
        let build = "/debian:bookworm:amd64:cloud/versions/20261120_05:24/items";
        let other = "00".repeat(32);
        let (fingerprint, rootfs) =
            (format!("{build}/incus.tar.xz/combined_squashfs_sha256"), format!("{build}/root.squashfs/sha256"));
        for (case, products, image, script, code, words) in [
            ("no such image", products(), "kubeadm/v1.36.0", vec![], "IMAGE_NOT_PUBLISHED", "kubeadm/v1.35.0/ubuntu"),
            ("another fingerprint", with(&fingerprint, &other), "debian/12/cloud", vec![], "CHECKSUM_MISMATCH", "fingerprint"),
            ("another root filesystem", with(&rootfs, &other), "debian/12/cloud", vec![], "CHECKSUM_MISMATCH", "images/rootfs"),
            ("no server", products(), "debian/12/cloud", vec![Answer::Status(404)], "DOWNLOAD_STATUS", "index.json"),
            ("no list", json!("Log in here"), "debian/12/cloud", vec![], "DOWNLOAD_UNEXPECTED", "images.json"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let fetched = fetch_from(&products, script, image, folder.path());
            let error = fetched.outcome.unwrap_err();
            assert_eq!(error.code(), code, "{case}: {error}");
            assert!(error.to_string().contains(words), "{case}: {error}");
            assert!(!error.hints().is_empty(), "{case}");
            assert!(!fetched.files.keys().any(|name| name.contains("rootfs")), "{case}: {:?}", fetched.files);
        }
    }
}
