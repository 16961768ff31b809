//! Images and their aliases, as far as an instance is made from them.

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::Model;
use super::answer::{Answer, Outcome, Refusal, sha256};
use super::projects::project_suffix;
use super::request::Call;

#[derive(Clone, Debug)]
pub(super) struct Image {
    file: Bytes,
}

impl Model {
    /// The project that a project's images live in.
    pub(super) fn image_project(&self, name: &str) -> Result<String, Refusal> {
        Ok(if self.project(name)?.has("features.images") { name } else { "default" }.to_owned())
    }

    fn view_image(&self, project: &str, fingerprint: &str, image: &Image) -> Value {
        let aliases: Vec<Value> = self
            .aliases
            .iter()
            .filter(|((of, _), target)| of == project && *target == fingerprint)
            .map(|((_, name), _)| json!({"name": name, "description": ""}))
            .collect();
        json!({
            "fingerprint": fingerprint, "size": image.file.len(), "type": "container", "architecture": "x86_64", "aliases": aliases,
            "properties": {"description": "tiny"}, "profiles": ["default"], "public": false, "auto_update": false, "cached": false,
            "filename": "", "created_at": super::EPOCH, "expires_at": super::EPOCH, "last_used_at": super::EPOCH, "uploaded_at": super::EPOCH,
        })
    }

    pub(super) fn list_images(&self, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        let images = self.images.iter().filter(|((of, _), _)| *of == project);
        Ok(Answer::Read(if call.recursive() {
            images.map(|((_, fingerprint), image)| self.view_image(&project, fingerprint, image)).collect()
        } else {
            images.map(|((_, fingerprint), _)| format!("/1.0/images/{fingerprint}{}", project_suffix(&project))).collect()
        }))
    }

    pub(super) fn get_image(&self, fingerprint: &str, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        let image = self.image(&project, fingerprint)?;
        let object = self.view_image(&project, fingerprint, image);
        Ok(Answer::Tagged { writable: object["properties"].clone(), object })
    }

    pub(super) fn image(&self, project: &str, fingerprint: &str) -> Result<&Image, Refusal> {
        self.images.get(&(project.to_owned(), fingerprint.to_owned())).ok_or_else(|| Refusal::not_found("Image not found"))
    }

    /// The image's file, as an import takes it.
    pub(super) fn export_image(&self, fingerprint: &str, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        let content = self.image(&project, fingerprint)?.file.clone();
        Ok(Answer::File { content, mode: "0600".to_owned() })
    }

    /// The fingerprint behind an alias.
    pub(super) fn alias(&self, project: &str, name: &str) -> Result<&String, Refusal> {
        self.aliases.get(&(project.to_owned(), name.to_owned())).ok_or_else(|| Refusal::not_found("Image alias not found"))
    }

    /// An image whose file is the request's body.
    pub(super) fn upload_image(&mut self, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        let fingerprint = sha256(&call.body);
        let image = Image { file: call.body.clone() };
        Ok(self.operate(
            "Downloading image",
            Value::Null,
            Box::new(move |model| {
                let metadata = json!({"fingerprint": fingerprint, "size": image.file.len().to_string()});
                model.images.insert((project, fingerprint), image);
                Ok(metadata)
            }),
        ))
    }

    pub(super) fn delete_image(&mut self, fingerprint: &str, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        self.image(&project, fingerprint)?;
        let path = format!("/1.0/images/{fingerprint}");
        let fingerprint = fingerprint.to_owned();
        Ok(self.operate(
            "Deleting image",
            json!({"images": [path]}),
            Box::new(move |model| {
                model.aliases.retain(|(of, _), target| *of != project || *target != fingerprint);
                model.images.remove(&(project, fingerprint));
                Ok(Value::Null)
            }),
        ))
    }

    pub(super) fn list_aliases(&self, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        let aliases = self.aliases.keys().filter(|(of, _)| *of == project);
        Ok(Answer::Read(aliases.map(|(_, name)| format!("/1.0/images/aliases/{name}")).collect()))
    }

    pub(super) fn get_alias(&self, name: &str, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        let target = self.alias(&project, name)?;
        let object = json!({"name": name, "description": "", "target": target, "type": "container"});
        Ok(Answer::Tagged { writable: object.clone(), object })
    }

    pub(super) fn create_alias(&mut self, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        let body = call.body("ImageAliasesPost")?;
        let name = body.text("name")?.unwrap_or_default();
        let target = body.text("target")?.unwrap_or_default();
        if self.alias(&project, &name).is_ok() {
            return Err(Refusal::conflict(format!("Alias \"{name}\" already exists")));
        }
        self.image(&project, &target)?;
        let path = format!("/1.0/images/aliases/{name}{}", project_suffix(&project));
        self.aliases.insert((project, name), target);
        Ok(Answer::Created(path))
    }

    pub(super) fn delete_alias(&mut self, name: &str, call: &Call) -> Outcome {
        let project = self.image_project(call.project())?;
        self.alias(&project, name)?;
        self.aliases.remove(&(project, name.to_owned()));
        Ok(Answer::Done)
    }
}
