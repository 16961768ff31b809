//! Brings the instance images of an offline bundle into the lab's project.

mod change;

use std::collections::BTreeMap;

use ansible::{Run, Step};
use bundle::InstanceImage;
use converge::{Failure, Section};
use lab::names;
use lxd::{Client, Connection, Image};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::change::Change;

/// Converge the instance images of an offline bundle in the lab's project.
///
/// Every image of the bundle is there under its alias. An image that an earlier bundle had under the same alias is deleted,
/// unless another alias leads to it. Instances that were made from it do not need it. Without a bundle there is nothing to do:
/// LXD then takes images from their servers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LxdImages {
    /// Project that has the images.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Aliases of the images to import. If the list is empty, all images of the bundle are imported.
    #[schemars(inner(length(min = 1)))]
    pub aliases: Vec<String>,
    /// Where the bundle is.
    #[serde(flatten)]
    pub bundle: bundle::Location,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// The images by their aliases.
    pub images: BTreeMap<String, ImageFacts>,
}

/// An image as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImageFacts {
    /// How LXD calls it.
    pub fingerprint: String,
    /// The version of what it carries.
    pub version: String,
    /// This run imported it.
    pub imported: bool,
}

impl Step for LxdImages {
    const NAME: &'static str = "lxd_images";
    const SECTIONS: &'static [&'static str] = &["images"];
    const EXAMPLES: &'static str = "\
- name: Bring the images of the bundle into the lab's project
  k8slab.capi.lxd_images:
    bundle: /srv/k8slab-bundle
  become: true
";
    type Facts = Facts;

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let wanted = self.wanted()?;
        let changes = run.section(&Images { step: self, wanted: &wanted }).await?.changes;
        let imported = |image: &InstanceImage| changes.iter().any(|change| change.imports(image));
        let facts = wanted.iter().map(|image| {
            let (fingerprint, version) = (image.fingerprint.clone(), image.version.clone());
            (image.alias.clone(), ImageFacts { fingerprint, version, imported: imported(image) })
        });
        run.verify(async { Ok(Facts { images: facts.collect() }) }).await
    }
}

impl LxdImages {
    async fn client(&self) -> Result<Client, Failure> {
        Ok(self.lxd.client().await?.in_project(&self.project))
    }

    fn wanted(&self) -> Result<Vec<InstanceImage>, Failure> {
        let Some(bundle) = self.bundle.open()? else { return Ok(Vec::new()) };
        let aliases: Vec<&str> = match self.aliases.as_slice() {
            [] => bundle.instance_aliases().collect(),
            aliases => aliases.iter().map(String::as_str).collect(),
        };
        Ok(aliases.into_iter().map(|alias| bundle.instance_image(alias)).collect::<Result<_, _>>()?)
    }
}

struct Images<'a> {
    step: &'a LxdImages,
    wanted: &'a [InstanceImage],
}

/// What the project has of the wanted images.
#[derive(Default)]
struct Live {
    /// The fingerprints behind the aliases.
    aliases: BTreeMap<String, String>,
    /// The images: whether this step brought them.
    images: BTreeMap<String, bool>,
}

impl Section for Images<'_> {
    const NAME: &'static str = "images";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let mut live = Live::default();
        if self.wanted.is_empty() {
            return Ok(live);
        }
        let client = self.step.client().await?;
        survey::project(&client, &self.step.project).await?;
        for image in client.images().await? {
            let ours = image.properties.contains_key(Image::MEANT_FOR);
            live.aliases.extend(image.aliases.into_iter().map(|alias| (alias.name, image.fingerprint.clone())));
            live.images.insert(image.fingerprint, ours);
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let is_wanted = |fingerprint: &String| self.wanted.iter().any(|image| image.fingerprint == *fingerprint);
        // An alias that stays as it is, a person's own say, keeps its image.
        let moves = |alias: &String| self.wanted.iter().any(|image| image.alias == *alias);
        let is_kept = |fingerprint: &String| live.aliases.iter().any(|(alias, target)| target == fingerprint && !moves(alias));
        let (mut changes, mut outdated) = (Vec::new(), BTreeMap::new());
        for image in self.wanted {
            let target = live.aliases.get(&image.alias);
            if target == Some(&image.fingerprint) {
                continue;
            }
            if !live.images.contains_key(&image.fingerprint) {
                changes.push(Change::Import(image.clone()));
            }
            let (alias, fingerprint) = (image.alias.clone(), image.fingerprint.clone());
            changes.push(Change::Point { alias: alias.clone(), before: target.cloned(), fingerprint });
            let ours = target.filter(|target| live.images.get(*target) == Some(&true) && !is_wanted(target) && !is_kept(target));
            outdated.extend(ours.map(|fingerprint| (fingerprint.clone(), alias)));
        }
        // Deleted at last, when nothing leads to them any more.
        changes.extend(outdated.into_iter().map(|(fingerprint, alias)| Change::Delete { alias, fingerprint }));
        Ok(changes)
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        change.apply(&self.step.client().await?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(alias: &str, fingerprint: &str) -> InstanceImage {
        InstanceImage {
            alias: alias.into(),
            fingerprint: fingerprint.into(),
            version: "v1".into(),
            metadata: Some("/bundle/metadata".into()),
            rootfs: "/bundle/rootfs".into(),
        }
    }

    #[test]
    fn plans() {
        let wanted = [image("haproxy", "aa")];
        for (case, aliases, images, expected) in [
            ("not there", &[][..], &[][..], "import image haproxy; point alias haproxy to aa"),
            ("there", &[("haproxy", "aa")], &[("aa", true)], ""),
            ("there without its alias", &[], &[("aa", true)], "point alias haproxy to aa"),
            (
                "an earlier bundle's",
                &[("haproxy", "bb")],
                &[("bb", true)],
                "import image haproxy; point alias haproxy to aa; delete image bb, which haproxy was",
            ),
            (
                "an earlier bundle's that somebody else uses, too",
                &[("haproxy", "bb"), ("mine", "bb")],
                &[("bb", true)],
                "import image haproxy; point alias haproxy to aa",
            ),
            ("somebody's own", &[("haproxy", "bb")], &[("bb", false)], "import image haproxy; point alias haproxy to aa"),
            ("something else", &[("debian", "bb")], &[("aa", false), ("bb", true)], "point alias haproxy to aa"),
        ] {
            let live = Live {
                aliases: aliases.iter().map(|(alias, target)| ((*alias).into(), (*target).into())).collect(),
                images: images.iter().map(|(fingerprint, ours)| ((*fingerprint).into(), *ours)).collect(),
            };
            let plan = Images { step: &LxdImages::default(), wanted: &wanted }.plan(&live).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{case}");
        }
    }
}
