//! What a move looks like that was stopped somewhere, and the one way on. Pure.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    graph::Graph,
    object::{Handle, Key, Object},
    side::{Side, Sides, Where},
};

/// How far a move has come. Each has one continuation, which was shown on real clusters to lose nothing and to make nothing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// Nothing has begun: the source is whole and reconciles, the target has nothing.
    Ready,
    /// The source is paused, the target has nothing.
    SourcePaused,
    /// Some objects are on the target, and moving them again is safe.
    Begun,
    /// A Cluster is on the target and templates of its class are not: the target takes no further change of it.
    Split,
    /// Everything is on the target, and nothing was deleted from the source.
    Created,
    /// The source is being emptied, and still has a Cluster.
    Emptying,
    /// The source has objects left, and no Cluster.
    ClustersGone,
    /// The source is empty, and the target is paused.
    TargetPaused,
    /// The source is empty, the target's classes reconcile, and a Cluster of it is paused.
    Resuming,
    /// The target is whole and reconciles, the source is paused and still has objects.
    Restored,
    /// The target is whole and reconciles, the source has nothing.
    Finished,
}

const CHANGED: &str = "objects of the source were changed after they were copied; take that back, and change them on the target once the \
                       move is finished";

/// A state that no move leaves behind: nothing is known to be right for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What is where, a line each.
    pub seen: Vec<String>,
}

/// One small thing on the way on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Lets the controllers of a cluster reconcile an object again.
    Unpause(Where, Handle),
    /// Has them leave an object alone.
    Pause(Where, Handle),
    /// `clusterctl move`.
    Move,
    /// `clusterctl move --from-directory`: what the target lacks comes from the copy.
    Restore,
    /// Marks an object of the source, deletes it and takes its finalizers away: its instance runs on.
    Delete(Handle),
    /// Gives an object of the target the annotations back that a mark has replaced.
    Annotate(Handle, BTreeMap<String, String>),
}

impl Act {
    /// The object that it lets reconcile again.
    #[must_use]
    pub fn unpauses<'a>(&self, sides: &'a Sides) -> Option<(Where, &'a Object)> {
        let Self::Unpause(place, handle) = self else { return None };
        let side = match place {
            Where::Source => &sides.source,
            Where::Target => &sides.target,
        };
        Some((*place, side.objects.get(&handle.key)?))
    }
}

impl Signature {
    /// What was found. The copy is what was moved, as it was before.
    pub fn of(copy: &BTreeMap<Key, Object>, sides: &Sides) -> Result<Self, Foreign> {
        Seen::of(copy, sides).signature()
    }

    /// The one way on from here.
    #[must_use]
    pub fn continuation(self, copy: &BTreeMap<Key, Object>, sides: &Sides) -> Vec<Act> {
        match self {
            Self::Finished => Vec::new(),
            Self::Ready | Self::SourcePaused | Self::Begun | Self::Created => {
                let mut acts = unpause(Where::Source, copy, &sides.source);
                acts.push(Act::Move);
                acts
            }
            Self::Split => [pause(copy, &sides.source), vec![Act::Restore], deletions(copy, &sides.source)].concat(),
            Self::Emptying | Self::ClustersGone | Self::TargetPaused | Self::Resuming | Self::Restored => {
                [deletions(copy, &sides.source), annotations(copy, &sides.target), unpause(Where::Target, copy, &sides.target)]
                    .concat()
            }
        }
    }
}

/// Those of the copy's objects that are there, Clusters and classes alone.
fn heads<'a>(copy: &BTreeMap<Key, Object>, side: &'a Side, is: fn(&Key) -> bool, paused: bool) -> Vec<&'a Object> {
    let there = copy.keys().filter(|key| is(key)).filter_map(|key| side.objects.get(key));
    there.filter(|object| object.paused == paused).collect()
}

/// What lets a side reconcile again. Classes first: a Cluster whose class is paused waits for it.
#[must_use]
pub fn unpause(place: Where, copy: &BTreeMap<Key, Object>, side: &Side) -> Vec<Act> {
    let paused = [heads(copy, side, Key::is_class, true), heads(copy, side, Key::is_cluster, true)].concat();
    paused.into_iter().map(|object| Act::Unpause(place, object.handle())).collect()
}

fn pause(copy: &BTreeMap<Key, Object>, source: &Side) -> Vec<Act> {
    let live = [heads(copy, source, Key::is_cluster, false), heads(copy, source, Key::is_class, false)].concat();
    live.into_iter().map(|object| Act::Pause(Where::Source, object.handle())).collect()
}

fn deletions(copy: &BTreeMap<Key, Object>, source: &Side) -> Vec<Act> {
    let order = Graph::of(copy).leaves_first();
    order.into_iter().filter_map(|key| source.objects.get(key)).map(|object| Act::Delete(object.handle())).collect()
}

fn annotations(copy: &BTreeMap<Key, Object>, target: &Side) -> Vec<Act> {
    let marked = copy.values().filter_map(|copied| Some((copied, target.objects.get(&copied.key)?)));
    let marked = marked.filter(|(_, live)| live.is_marked());
    let own = |copied: &Object| copied.own_annotations().map(|(name, value)| (name.clone(), value.clone())).collect();
    marked.map(|(copied, live)| Act::Annotate(live.handle(), own(copied))).collect()
}

/// The objects of the copy on both sides.
struct Seen<'a> {
    copy: &'a BTreeMap<Key, Object>,
    sides: &'a Sides,
    gone_from_source: Vec<&'a Key>,
    marked_on_source: Vec<&'a Key>,
    missing_on_target: Vec<&'a Key>,
}

impl<'a> Seen<'a> {
    fn of(copy: &'a BTreeMap<Key, Object>, sides: &'a Sides) -> Self {
        let lacks = |side: &'a Side| copy.keys().filter(|key| !side.objects.contains_key(*key)).collect();
        let ends = |key: &&Key| sides.source.objects.get(*key).is_some_and(|object| object.is_marked() || object.going);
        Self {
            copy,
            sides,
            gone_from_source: lacks(&sides.source),
            marked_on_source: copy.keys().filter(ends).collect(),
            missing_on_target: lacks(&sides.target),
        }
    }

    fn signature(&self) -> Result<Signature, Foreign> {
        let (source, target) = (&self.sides.source, &self.sides.target);
        let live_target = heads(self.copy, target, Key::is_cluster, false);
        if !source.beyond(self.copy).is_empty() {
            return Err(self.foreign("the source has objects that were not there when the copy was made"));
        }
        let has_source = self.gone_from_source.len() < self.copy.len();
        let has_target = self.missing_on_target.len() < self.copy.len();
        let whole_target = self.missing_on_target.is_empty();
        let is_emptied = !self.gone_from_source.is_empty() || !self.marked_on_source.is_empty();
        if has_source && !live_target.is_empty() {
            return if !whole_target {
                Err(self.foreign("the target reconciles although it lacks objects"))
            } else if !heads(self.copy, source, Key::is_cluster, false).is_empty() {
                Err(self.foreign("both clusters reconcile the same objects"))
            } else if self.is_changed() {
                Err(self.foreign(CHANGED))
            } else {
                Ok(Signature::Restored)
            };
        }
        if !target.beyond(self.copy).is_empty() && live_target.is_empty() && has_target {
            return Err(self.foreign("the target has objects that nobody has moved there"));
        }
        if is_emptied {
            return self.emptied(has_source, whole_target);
        }
        let has_cluster = self.copy.keys().any(|key| key.is_cluster() && target.objects.contains_key(key));
        let templates = Graph::of(self.copy);
        let lacks_template = self.missing_on_target.iter().any(|key| templates.is_of_a_class(key));
        Ok(match () {
            () if !has_target && unpause(Where::Source, self.copy, source).is_empty() => Signature::Ready,
            () if !has_target => Signature::SourcePaused,
            () if whole_target => Signature::Created,
            () if has_cluster && lacks_template => Signature::Split,
            () => Signature::Begun,
        })
    }

    /// Objects of the source were deleted, or are about to be.
    fn emptied(&self, has_source: bool, whole_target: bool) -> Result<Signature, Foreign> {
        let (source, target) = (&self.sides.source, &self.sides.target);
        if !heads(self.copy, source, Key::is_cluster, false).is_empty() {
            return Err(self.foreign("the source reconciles although it has lost objects"));
        }
        if !whole_target {
            return Err(self.foreign("the source has lost objects that the target does not have"));
        }
        if self.is_changed() {
            return Err(self.foreign(CHANGED));
        }
        let has_cluster = self.copy.keys().any(|key| key.is_cluster() && source.objects.contains_key(key));
        Ok(match () {
            () if has_cluster => Signature::Emptying,
            () if has_source => Signature::ClustersGone,
            () if !heads(self.copy, target, Key::is_class, true).is_empty() => Signature::TargetPaused,
            () if !heads(self.copy, target, Key::is_cluster, true).is_empty() || !annotations(self.copy, target).is_empty() => {
                Signature::Resuming
            }
            () => Signature::Finished,
        })
    }

    /// What is on the source is deleted next, and the target has it as it was copied.
    fn is_changed(&self) -> bool {
        let live = |copied: &Object| self.sides.source.objects.get(&copied.key);
        self.copy.values().any(|copied| live(copied).is_some_and(|live| !live.says_as_much(copied)))
    }

    fn foreign(&self, why: &str) -> Foreign {
        let mut seen = vec![why.to_owned()];
        seen.extend(self.sides.described(self.copy));
        Foreign { seen }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::SourcePaused => "source-paused",
            Self::Begun => "begun",
            Self::Split => "split",
            Self::Created => "created",
            Self::Emptying => "emptying",
            Self::ClustersGone => "clusters-gone",
            Self::TargetPaused => "target-paused",
            Self::Resuming => "resuming",
            Self::Restored => "restored",
            Self::Finished => "finished",
        })
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpause(place, key) => write!(f, "un-pause {key} on the {place}"),
            Self::Pause(place, key) => write!(f, "pause {key} on the {place}"),
            Self::Move => f.write_str("run clusterctl move"),
            Self::Restore => f.write_str("run clusterctl move --from-directory for what the target lacks"),
            Self::Delete(key) => write!(f, "delete {key} from the source, its instance left alone"),
            Self::Annotate(key, _) => write!(f, "give {key} on the target its annotations back"),
        }
    }
}
