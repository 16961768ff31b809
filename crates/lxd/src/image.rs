use reqwest::{Body, Method, header::CONTENT_TYPE};
use serde::Deserialize;

use crate::{Client, Error};

#[derive(Deserialize)]
struct Alias {
    target: String,
}

impl Client {
    /// The fingerprint behind an image's alias, if there is one.
    pub async fn find_alias(&self, alias: &str) -> Result<Option<String>, Error> {
        match self.get::<Alias>(&format!("images/aliases/{alias}")).await {
            Ok(found) => Ok(Some(found.object.target)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the project has an image.
    pub async fn has_image(&self, fingerprint: &str) -> Result<bool, Error> {
        match self.get::<serde_json::Value>(&format!("images/{fingerprint}")).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Copies an image from another project of the same server. Not every server copies between projects by itself, so what one
    /// side exports is handed to the other as it comes; it is the form that an import takes.
    pub async fn copy_image(&self, fingerprint: &str, from: &str) -> Result<(), Error> {
        let export = format!("images/{fingerprint}/export");
        let request = format!("GET /1.0/{export}");
        let response = self.http().get(self.in_project(from).url(&export)?).send().await;
        let response = response.map_err(|error| self.broken(&request, &error))?;
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
        let response = import.send().await.map_err(|error| self.broken(&request, &error))?;
        self.outcome(&request, response).await.map(drop)
    }
}
