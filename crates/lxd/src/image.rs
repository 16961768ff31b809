//! Images, and how one is imported from files.

use std::{collections::BTreeMap, path::Path};

use reqwest::{
    Body, Method,
    header::CONTENT_TYPE,
    multipart::{Form, Part},
};
use serde::Deserialize;
use tokio::fs::File;

use crate::{Client, Error, error::if_there};

/// An image, as far as the lab looks at it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Its name on every server that has it.
    pub fingerprint: String,
    /// What it is called here.
    pub aliases: Vec<ImageAlias>,
    /// What somebody wrote on it.
    pub properties: BTreeMap<String, String>,
    /// LXD keeps it for the next time, and fetches it again where it is not there.
    pub cached: bool,
}

/// What an image is called.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ImageAlias {
    /// The name.
    pub name: String,
}

/// An image in one file or in two, as LXD exports containers.
#[derive(Clone, Copy, Debug)]
pub struct ImageFiles<'a> {
    /// The fingerprint that it must turn out to have.
    pub fingerprint: &'a str,
    /// What LXD has to know of it, packed, unless the root filesystem has that with it.
    pub metadata: Option<&'a Path>,
    /// Its root filesystem.
    pub rootfs: &'a Path,
    /// The alias that it is meant for, kept on it as [`Image::MEANT_FOR`].
    pub alias: &'a str,
}

impl Image {
    /// On an image that a step imported: the alias that it is meant for.
    pub const MEANT_FOR: &'static str = "k8slab.alias";
}

#[derive(Deserialize)]
struct Alias {
    target: String,
}

impl Client {
    /// All images of the project.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.get("images?recursion=1").await?.object)
    }

    /// The fingerprint behind an image's alias, if there is one.
    pub async fn find_alias(&self, alias: &str) -> Result<Option<String>, Error> {
        let found = if_there(self.get::<Alias>(&format!("images/aliases/{alias}")).await)?;
        Ok(found.map(|found| found.object.target))
    }

    /// Whether the project has an image.
    pub async fn has_image(&self, fingerprint: &str) -> Result<bool, Error> {
        Ok(if_there(self.get::<serde_json::Value>(&format!("images/{fingerprint}")).await)?.is_some())
    }

    /// Imports an image.
    pub async fn import_image(&self, files: &ImageFiles<'_>) -> Result<(), Error> {
        let request = format!("POST /1.0/images of {}", files.rootfs.display());
        let url = self.url("images")?;
        // LXD reads them in the form of a query.
        let mut properties = url.clone();
        properties.query_pairs_mut().clear().append_pair(Image::MEANT_FOR, files.alias);
        let import = self.http().request(Method::POST, url).header("X-LXD-properties", properties.query().unwrap_or_default());
        let import = match files.metadata {
            // LXD wants them in this order.
            Some(metadata) => {
                import.multipart(Form::new().part("metadata", part(metadata).await?).part("rootfs", part(files.rootfs).await?))
            }
            None => import.header(CONTENT_TYPE, "application/octet-stream").body(whole(files.rootfs).await?),
        };
        let reply = self.exchange(&request, import, self.limits().transfer).await?;
        let made = self.outcome(&request, reply).await?;
        let fingerprint = made["fingerprint"].as_str().unwrap_or_default();
        if fingerprint == files.fingerprint {
            return Ok(());
        }
        self.delete(&format!("images/{fingerprint}")).await?;
        let (listed, actual) = (files.fingerprint.to_owned(), fingerprint.to_owned());
        Err(Error::ImageDiffers { alias: files.alias.to_owned(), listed, actual })
    }

    /// Copies an image from another project of the same server. Not every server copies between projects by itself, so what one
    /// side exports is handed to the other as it comes; it is the form that an import takes.
    pub async fn copy_image(&self, fingerprint: &str, from: &str) -> Result<(), Error> {
        let export = format!("images/{fingerprint}/export");
        let request = format!("GET /1.0/{export}");
        let export = self.http().get(self.in_project(from).url(&export)?).send();
        let response = self.within(&request, self.limits().answer, export).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(Error::Refused {
                request,
                status: status.as_u16(),
                message: format!("the export was answered with {status}"),
            });
        }
        let kind = response.headers().get(CONTENT_TYPE).cloned();
        let mut import = self.http().request(Method::POST, self.url("images")?).body(Body::wrap_stream(response.bytes_stream()));
        if let Some(kind) = kind {
            import = import.header(CONTENT_TYPE, kind);
        }
        let request = format!("POST /1.0/images of {fingerprint}");
        let reply = self.exchange(&request, import, self.limits().transfer).await?;
        self.outcome(&request, reply).await.map(drop)
    }
}

/// A file that is read while it is sent, on its own.
async fn whole(path: &Path) -> Result<Body, Error> {
    let file = File::open(path).await.map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    Ok(file.into())
}

/// The same, next to another.
async fn part(path: &Path) -> Result<Part, Error> {
    Part::file(path).await.map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}
