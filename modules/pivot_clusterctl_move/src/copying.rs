//! The copy of what is moved, made before anything is.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use converge::{Failure, Section};
use pivot::{Act, Copy, Found, Key, Manifest, Object, Open, Sides, Stage, Where};
use serde_json::{Value, json};

use crate::{clusters::Clusters, error::Error};

/// The section: a copy that is complete, of what the source says now, for as long as nothing of it has left.
pub(crate) struct Copying<'a>(pub &'a Clusters<'a>);

#[derive(Default)]
pub(crate) struct Live {
    /// The target has taken over.
    pub is_finished: bool,
    pub open: Option<Open>,
    pub copy: Found,
    pub sides: Sides,
    /// What keeps anything from being moved at all.
    pub unready: Vec<String>,
}

pub(crate) enum Change {
    /// A source that a killed run has left paused.
    Act(Act),
    Copy {
        path: PathBuf,
        counts: BTreeMap<String, usize>,
    },
}

impl Live {
    /// What both sections look at.
    pub(crate) async fn observe(clusters: &Clusters<'_>) -> Result<Self, Failure> {
        clusters.hold_if_there().await?;
        if clusters.is_finished().await? {
            return Ok(Self { is_finished: true, ..Self::default() });
        }
        let (open, copy) = (clusters.open()?, clusters.folder().read()?);
        Ok(Self { open, copy, sides: clusters.sides().await?, ..Self::default() })
    }

    /// The copy, if it is one of this move: between these two clusters.
    pub(crate) fn copy(&self) -> Option<&Copy> {
        let Found::Whole(copy) = &self.copy else { return None };
        let (manifest, sides) = (&copy.manifest, &self.sides);
        (manifest.source == sides.source.uid && manifest.target == sides.target.uid).then_some(copy)
    }

    pub(crate) fn stage(&self) -> Option<Stage> {
        self.open.as_ref().map(|open| open.stage)
    }

    /// What these acts would let reconcile again although somebody else than this move has paused it. On the source, a move has paused
    /// nothing before it has begun.
    pub(crate) fn paused_by_hand(&self, acts: &[Act]) -> Vec<(Where, &Object)> {
        let has_paused = self.stage().is_some_and(|stage| stage != Stage::Copied);
        let paused = acts.iter().filter_map(|act| act.unpauses(&self.sides));
        paused.filter(|(place, object)| object.paused_by.is_some() || (*place == Where::Source && !has_paused)).collect()
    }

    /// What lets the source reconcile again.
    fn unpause(&self) -> Vec<Act> {
        pivot::unpause(Where::Source, &moved(&self.sides), &self.sides.source)
    }

    /// Whether a move has come further than a copy, whoever did it: the source is being emptied, or both have a Cluster.
    fn is_begun(&self) -> bool {
        is_emptied(&self.sides) || has_cluster_on_both(&self.sides)
    }

    /// Whether the source still has everything of the copy, and clusterctl has not begun to delete it.
    fn is_whole(&self, copy: &Copy) -> bool {
        let there = |copied: &Object| {
            self.sides
                .source
                .objects
                .get(&copied.key)
                .is_some_and(|live| live.uid == copied.uid && !live.is_marked() && !live.going)
        };
        copy.objects.values().all(there)
    }
}

impl Copying<'_> {
    /// Whether a copy has to be made; fails where none can be made and none is there.
    pub(crate) fn is_due(&self, live: &Live) -> Result<bool, Failure> {
        let step = self.0.step;
        if live.is_finished {
            return Ok(false);
        }
        if let Some(open) = live.open.as_ref().filter(|open| open.direction != step.direction) {
            return Err(Error::OtherDirection { direction: open.direction }.into());
        }
        // Nothing could be looked at yet.
        if live.sides.source.uid.is_empty() {
            return Ok(true);
        }
        let (source, target) = (&live.sides.source, &live.sides.target);
        let begun = live.stage();
        if let Some(copy) = live.copy().filter(|copy| copy.is_of(source) || begun.is_some()) {
            let reconciles = target.clusters().any(|(key, paused)| copy.objects.contains_key(key) && !paused);
            // What has left is known by the copy alone, and where both reconcile it is not this section that says so.
            if copy.is_of(source) || !live.is_whole(copy) || reconciles {
                return Ok(false);
            }
        } else if begun == Some(Stage::Moving) || is_emptied(&live.sides) || (begun.is_none() && live.is_begun()) {
            let what = match &live.copy {
                Found::Nothing => "gone, or was never finished".to_owned(),
                Found::Damaged(what) => format!("damaged: {what}"),
                Found::Whole(_) => "that of another move".to_owned(),
            };
            let seen = live.sides.described(&moved(&live.sides));
            return Err(Error::CopyLost { path: self.0.folder().path().to_owned(), what, seen }.into());
        }
        self.is_possible(live)?;
        Ok(true)
    }

    fn is_possible(&self, live: &Live) -> Result<(), Error> {
        let step = self.0.step;
        let wanted = |key: &&Key| key.is_cluster() && key.name == step.target_cluster_name;
        if !live.sides.source.moved.iter().any(|key| wanted(&key)) {
            let (namespace, name) = (step.target_cluster_namespace.clone(), step.target_cluster_name.clone());
            return Err(Error::NoCluster { namespace, name });
        }
        let acts = live.unpause();
        self.0.refuse_paused_by_hand(&live.paused_by_hand(&acts))?;
        // A paused source says nothing new of itself; it is let go first and looked at again.
        if acts.is_empty() && !live.unready.is_empty() {
            return Err(Error::NotReady { unmet: live.unready.clone() });
        }
        Ok(())
    }
}

/// The source has begun to lose what the target has, so that it may not reconcile any more.
fn is_emptied(sides: &Sides) -> bool {
    let (source, target) = (&sides.source, &sides.target);
    source.moved().any(Object::is_marked)
        || (has_cluster_on_both(sides) && target.moved.iter().any(|key| !source.objects.contains_key(key)))
}

fn has_cluster_on_both(sides: &Sides) -> bool {
    sides.target.moved.iter().any(|key| key.is_cluster() && sides.source.objects.contains_key(key))
}

/// What `clusterctl move` would take along from the source.
fn moved(sides: &Sides) -> BTreeMap<Key, Object> {
    sides.source.moved().map(|object| (object.key.clone(), object.clone())).collect()
}

impl Section for Copying<'_> {
    const NAME: &'static str = "copy";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let mut live = Live::observe(self.0).await?;
        if !live.is_finished && live.copy().is_none_or(|copy| !copy.is_of(&live.sides.source)) {
            live.unready = crate::ready::unmet(self.0, &live.sides).await?;
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        if !self.is_due(live)? {
            return Ok(Vec::new());
        }
        let moved = moved(&live.sides);
        let counts = moved.keys().fold(BTreeMap::new(), |mut counts: BTreeMap<String, usize>, key| {
            *counts.entry(key.kind.clone()).or_default() += 1;
            counts
        });
        let acts = live.unpause().into_iter().map(Change::Act);
        Ok(acts.chain([Change::Copy { path: self.0.folder().path().to_owned(), counts }]).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Act(act) => self.0.act(act).await,
            Change::Copy { .. } => self.copy().await,
        }
    }
}

impl Copying<'_> {
    async fn copy(&self) -> Result<(), Failure> {
        let (clusters, folder) = (self.0, self.0.folder());
        clusters.hold().await?;
        clusters.await_target().await?;
        clusters.record(Stage::Copying)?;
        folder.begin()?;
        let (objects, source) = (folder.objects().display().to_string(), clusters.kubeconfig(Where::Source).display().to_string());
        let namespace = &clusters.step.target_cluster_namespace;
        let ended = clusters.clusterctl(&["--kubeconfig", &source, "--namespace", namespace, "--to-directory", &objects]).await?;
        if let Err(source) = ended {
            let is_taken_back = self.take_back().await.is_ok();
            return Err(Error::NotCopied { source: Box::new(source), is_taken_back }.into());
        }
        let sides = clusters.sides().await?;
        let manifest = Manifest {
            direction: clusters.step.direction,
            namespace: namespace.clone(),
            source: sides.source.uid.clone(),
            target: sides.target.uid.clone(),
            instances: clusters.instances(&sides.source).await?,
            files: BTreeMap::new(),
        };
        folder.complete(&sides.source, manifest)?;
        clusters.record(Stage::Copied)
    }

    /// Has the source go on that a failed copy has paused. Nothing is open then, unless the target has got something before.
    async fn take_back(&self) -> Result<(), Failure> {
        let clusters = self.0;
        let live = Live::observe(clusters).await?;
        let acts = live.unpause();
        clusters.refuse_paused_by_hand(&live.paused_by_hand(&acts))?;
        for act in &acts {
            clusters.act(act).await?;
        }
        if live.is_begun() { Ok(()) } else { Ok(Open::close(&clusters.step.staging_dir())?) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Act(act) => act.fmt(f),
            Self::Copy { path, counts } => write!(f, "copy {} objects to {}", counts.values().sum::<usize>(), path.display()),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Act(act) => act.to_string(),
            Self::Copy { path, .. } => path.display().to_string(),
        }
    }

    fn before(&self) -> Value {
        Value::Null
    }

    fn after(&self) -> Value {
        match self {
            Self::Act(_) => json!({"paused": false}),
            Self::Copy { counts, .. } => json!(counts),
        }
    }
}
