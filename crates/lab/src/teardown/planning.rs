//! What goes and what stays, of what was seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Api, ClusterName, Doomed, Doubt, Kept, Of, Part, Plan, Removal, Scope, Seen, Shared, graph};
use crate::lifecycle::Owner;

const UNMARKED: &str = "its description is not the lab's";

/// What goes and what stays. With `force`, an owner that cannot be asked holds nothing up.
pub fn plan(scope: &Scope, management: &ClusterName, seen: &Seen, force: bool) -> Result<Plan, Doubt> {
    if let Scope::Workload(cluster) = scope
        && cluster == management
    {
        return Err(Doubt::NoWorkload(cluster.clone()));
    }
    let planning = Planning { scope, management, seen, targets: targets(scope, management, seen) };
    planning.doubts(force)?;
    let mut plan = Plan::default();
    let (project_kept, network_kept, pool_kept) = planning.kept(&mut plan.kept);
    let kept = [(Part::Project, project_kept), (Part::Network, network_kept), (Part::Pool, pool_kept)];
    let mut parts = planning.parts();
    parts.retain(|part| !kept.contains(&(*part, true)));
    if project_kept {
        // Whoever has something in it may use them.
        parts.retain(|part| ![Part::Images, Part::Profiles].contains(part));
    }
    for part in graph::order(&parts) {
        planning.remove(part, &parts, &mut plan.removals);
    }
    Ok(plan)
}

/// The clusters that go.
fn targets<'a>(scope: &'a Scope, management: &ClusterName, seen: &'a Seen) -> BTreeSet<&'a ClusterName> {
    let mut all = seen.clusters();
    match scope {
        Scope::Workload(cluster) => all.retain(|known| *known == cluster),
        Scope::Workloads => all.retain(|known| *known != management),
        Scope::Bootstrap if seen.bootstrap == Api::Answers => {
            all.retain(|known| seen.objects.iter().any(|(cluster, owner)| (cluster, *owner) == (*known, Owner::Bootstrap)));
        }
        // Who cannot be asked owns what has not been taken over.
        Scope::Bootstrap if seen.management == Api::Answers || seen.is_over() => all.clear(),
        Scope::Bootstrap | Scope::Management | Scope::Clusters | Scope::All => {}
    }
    all
}

struct Planning<'a> {
    scope: &'a Scope,
    management: &'a ClusterName,
    seen: &'a Seen,
    targets: BTreeSet<&'a ClusterName>,
}

impl Planning<'_> {
    fn parts(&self) -> BTreeSet<Part> {
        match self.scope {
            Scope::All => Part::ALL.into(),
            _ => [Part::Workloads, Part::Management, Part::Bootstrap, Part::Remains].into(),
        }
    }

    fn goes(&self, owner: Owner) -> bool {
        match owner {
            Owner::Management => {
                matches!(self.scope, Scope::Management | Scope::Clusters | Scope::All) || self.targets.contains(self.management)
            }
            Owner::Bootstrap => matches!(self.scope, Scope::Bootstrap | Scope::Clusters | Scope::All),
        }
    }

    fn doubts(&self, force: bool) -> Result<(), Doubt> {
        let clusters = || self.targets.iter().map(|cluster| (*cluster).clone()).collect::<BTreeSet<_>>();
        let stays = |owner: Owner| *self.seen.api(owner) != Api::Gone && !self.goes(owner);
        if self.seen.is_pivot_open && !self.targets.is_empty() && (stays(Owner::Management) || stays(Owner::Bootstrap)) {
            return Err(Doubt::PivotOpen { clusters: clusters() });
        }
        for owner in [Owner::Management, Owner::Bootstrap] {
            let Api::Silent(reason) = self.seen.api(owner) else { continue };
            let mut suspects = clusters();
            suspects.retain(|cluster| !self.has_object(cluster));
            if !self.goes(owner) && !suspects.is_empty() && !force {
                return Err(Doubt::Silent { owner, reason: reason.clone(), clusters: suspects });
            }
        }
        Ok(())
    }

    /// Somebody who answers has the Cluster object.
    fn has_object(&self, cluster: &ClusterName) -> bool {
        self.seen.objects.iter().any(|(known, _)| known == cluster)
    }

    /// Who deletes a cluster through Cluster API. The management cluster cannot delete itself: its controllers would go first.
    fn deleter(&self, cluster: &ClusterName) -> Option<Owner> {
        let mut owners = self.seen.objects.iter().filter(|(known, _)| known == cluster).map(|(_, owner)| *owner);
        owners.find(|owner| {
            *self.seen.api(*owner) == Api::Answers
                && !self.seen.is_pivot_open
                && (cluster, *owner) != (self.management, Owner::Management)
        })
    }

    fn remove(&self, part: Part, parts: &BTreeSet<Part>, removals: &mut Vec<Removal>) {
        let substrate = &self.seen.substrate;
        let name = |shared: &Option<Shared>| shared.as_ref().map(|shared| shared.name.clone());
        match part {
            Part::Workloads => self.delete(|cluster| cluster != self.management, removals),
            Part::Management => {
                self.delete(|cluster| cluster == self.management, removals);
                if self.targets.contains(self.management) && self.deleter(self.management).is_none() {
                    self.instances(Of::Cluster(self.management.clone()), removals);
                }
            }
            Part::Bootstrap => {
                if self.goes(Owner::Bootstrap) {
                    self.instances(Of::Bootstrap, removals);
                    removals.extend(self.seen.bootstrap_files.iter().cloned().map(Removal::File));
                }
            }
            Part::Remains => self.remains(!parts.contains(&Part::Project), removals),
            Part::Trust => {
                removals.extend(substrate.trust.iter().cloned().map(Removal::Trust));
                removals.extend(substrate.identities.iter().cloned().map(Removal::Identity));
                removals.extend(substrate.groups.iter().cloned().map(Removal::Group));
                removals.extend(substrate.keys.iter().cloned().map(Removal::File));
            }
            Part::Images => {
                let images = substrate.images.iter().filter(|image| image.is_ours);
                removals.extend(images.map(|image| Removal::Image(image.fingerprint.clone())));
            }
            Part::Profiles => {
                let profiles = substrate.profiles.iter().filter(|profile| profile.is_ours);
                removals.extend(profiles.map(|profile| Removal::Profile(profile.name.clone())));
            }
            Part::Project => removals.extend(name(&substrate.project).map(Removal::Project)),
            Part::Listener => removals.extend(substrate.listener.clone().map(Removal::Listener)),
            Part::Network => removals.extend(name(&substrate.network).map(Removal::Network)),
            Part::Pool => removals.extend(name(&substrate.pool).map(Removal::Pool)),
        }
    }

    /// Clusters that are deleted through Cluster API.
    fn delete(&self, is_meant: impl Fn(&ClusterName) -> bool, removals: &mut Vec<Removal>) {
        for owner in [Owner::Management, Owner::Bootstrap] {
            let meant = self.targets.iter().filter(|cluster| is_meant(cluster) && self.deleter(cluster) == Some(owner));
            let doomed = |cluster: &&ClusterName| Doomed {
                cluster: (*cluster).clone(),
                instances: self.seen.instances_of(&Of::Cluster((*cluster).clone())),
            };
            let clusters: Vec<_> = meant.map(doomed).collect();
            if !clusters.is_empty() {
                removals.push(Removal::Clusters { owner, clusters, owner_goes: self.goes(owner) });
            }
        }
    }

    fn instances(&self, of: Of, removals: &mut Vec<Removal>) {
        let names = self.seen.instances_of(&of);
        if !names.is_empty() {
            removals.push(Removal::Instances { of, names });
        }
    }

    /// What the clusters leave. A kubeconfig goes last: it is what a run that was killed knows a cluster by.
    fn remains(&self, project_stays: bool, removals: &mut Vec<Removal>) {
        for cluster in self.targets.iter().copied() {
            if cluster != self.management && self.deleter(cluster).is_none() {
                self.instances(Of::Cluster(cluster.clone()), removals);
            }
            if !self.goes(Owner::Management) {
                let releases = self.seen.releases.iter().filter(|(of, _)| of == cluster);
                removals
                    .extend(releases.map(|(of, name)| Removal::Release { namespace: of.namespace.clone(), name: name.clone() }));
                let classes = self.seen.classes.iter().filter(|(of, ..)| of == cluster).cloned();
                removals.extend(classes.map(|(cluster, release, objects)| Removal::Class { cluster, release, objects }));
            }
            let addresses: Vec<IpAddr> =
                self.seen.ports.iter().filter(|(of, _)| of == cluster).map(|(_, address)| *address).collect();
            if !addresses.is_empty() {
                removals.push(Removal::Ports { cluster: cluster.clone(), addresses });
            }
            let kubeconfigs = self.seen.kubeconfigs.iter().filter(|(of, _)| of == cluster);
            removals.extend(kubeconfigs.map(|(_, path)| Removal::File(path.clone())));
        }
        if self.goes(Owner::Management) {
            removals.extend(self.seen.pivot_files.iter().cloned().map(Removal::File));
            let project = self.seen.substrate.project.as_ref();
            if let (Some(project), Some(_), true) = (project, &self.seen.phase, project_stays) {
                removals.push(Removal::Phase(project.name.clone()));
            }
        }
    }

    /// Whether project, network and pool stay; notes what stays and why.
    fn kept(&self, kept: &mut Vec<Kept>) -> (bool, bool, bool) {
        if *self.scope != Scope::All {
            return (false, false, false);
        }
        let substrate = &self.seen.substrate;
        let mut keep = |what: String, why: String| kept.push(Kept { what, why });
        let project = substrate.project.as_ref();
        let foreign: Vec<String> =
            project.iter().flat_map(|project| &project.users).filter_map(|user| self.foreign(user)).collect();
        let mut project_stays = false;
        if let Some(project) = project {
            let named = format!("project {}", project.name);
            for what in &foreign {
                keep(format!("{what} in {named}"), "it is not the lab's".to_owned());
            }
            let why = if project.is_ours { "what is not the lab's is in it" } else { UNMARKED };
            project_stays = !project.is_ours || !foreign.is_empty();
            if project_stays {
                keep(named, why.to_owned());
            }
        }
        let mut stays = |kind: &str, shared: &Option<Shared>, more: &[String]| {
            let Some(shared) = shared else { return false };
            let of_project = project.map(|project| format!("project={}", project.name));
            let others = shared.users.iter().filter(|user| !user.starts_with("/1.0/images/"));
            // A pool's copy of an image goes with the pool.
            let others = others.filter(|user| !user.contains("/volumes/image/"));
            let others = others.filter(|user| {
                let query = user.split_once('?').map(|(_, query)| query).unwrap_or_default();
                !query.split('&').any(|part| Some(part) == of_project.as_deref())
            });
            let uses =
                others.map(|user| format!("{} uses it", plain(user))).chain(more.iter().map(|more| format!("it forwards {more}")));
            let why = match (project_stays, project) {
                (true, Some(project)) => Some(format!("project {} stays", project.name)),
                _ if !shared.is_ours => Some(UNMARKED.to_owned()),
                _ => Some(uses.collect::<Vec<_>>().join(", ")).filter(|uses| !uses.is_empty()),
            };
            let stays = why.is_some();
            kept.extend(why.map(|why| Kept { what: format!("{kind} {}", shared.name), why }));
            stays
        };
        let network_stays = stays("network", &substrate.network, &substrate.foreign_forwards);
        let pool_stays = stays("storage pool", &substrate.pool, &[]);
        (project_stays, network_stays, pool_stays)
    }

    /// What is in the project and is not the lab's, as a person names it.
    fn foreign(&self, user: &str) -> Option<String> {
        let path = user.split('?').next().unwrap_or(user);
        let substrate = &self.seen.substrate;
        let is_ours = match path.trim_start_matches("/1.0/").split_once('/') {
            Some(("instances", name)) => self.seen.instances.iter().any(|own| own.name == name && own.of != Of::Somebody),
            Some(("images", name)) => substrate.images.iter().any(|own| own.fingerprint == name && own.is_ours),
            Some(("profiles", name)) => name == "default" || substrate.profiles.iter().any(|own| own.name == name && own.is_ours),
            _ => false,
        };
        (!is_ours).then(|| plain(path))
    }
}

/// A path of LXD's as a person reads it: `instance mine`, `volume data on pool fast`.
fn plain(user: &str) -> String {
    let (path, query) = user.split_once('?').unwrap_or((user, ""));
    let query: BTreeMap<&str, &str> = query.split('&').filter_map(|part| part.split_once('=')).collect();
    let parts: Vec<&str> = path.trim_start_matches("/1.0/").split('/').collect();
    let what = match parts.as_slice() {
        ["storage-pools", pool, "volumes", _, name] => format!("volume {name} on pool {pool}"),
        ["images", fingerprint] => format!("image {}", super::short(fingerprint)),
        [kind, name] => format!("{} {name}", kind.trim_end_matches('s')),
        _ => path.to_owned(),
    };
    match query.get("project") {
        Some(&project) if project != "default" => format!("{what} of project {project}"),
        _ => what,
    }
}
