//! The option that says where the bundle is, for all steps that have one.

use converge::AbsolutePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bundle, Error};

/// The option by which a step takes its files from a bundle.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Location {
    /// Folder of the offline bundle on the host. If unset, what is needed is downloaded.
    #[schemars(extend("global" = "bundle"))]
    pub bundle: Option<AbsolutePath>,
}

impl Location {
    /// The bundle, if the option names one.
    pub fn open(&self) -> Result<Option<Bundle>, Error> {
        self.bundle.as_ref().map(|folder| Bundle::open(folder)).transpose()
    }
}
