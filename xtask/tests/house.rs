//! Rules of the house that no compiler knows: who may depend on whom, and that a wrapped error keeps what it says.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Arm, Fields, File, ImplItem, Item, ItemImpl, Pat, Path as TypePath, Type,
    visit::{self, Visit},
};

/// The layers, from the top. A crate may use those of the layers below its own, and none beside it.
const LAYERS: [&[&str]; 6] = [
    &["modules"],
    &["survey", "helm", "providers", "pivot"],
    &["cluster"],
    &["lxd", "host", "bundle", "charts"],
    &["lab"],
    &["converge", "transport"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The workspace's own packages: their folder, and the names of what they depend on.
fn packages() -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let mut packages = BTreeMap::new();
    for group in ["crates", "modules", "bundle", "bundle/standins", ".", "tests"] {
        for entry in fs::read_dir(root().join(group)).unwrap() {
            let folder = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
            let manifest: toml::Table = text.parse().unwrap();
            let Some(package) = manifest.get("package") else { continue };
            let depends = manifest.get("dependencies").and_then(toml::Value::as_table);
            let depends = depends.into_iter().flatten().map(|(name, _)| name.clone()).collect();
            packages.insert(package["name"].as_str().unwrap().to_owned(), (folder, depends));
        }
    }
    packages
}

/// What `ansible-test sanity` takes; YAML cannot fold a sentence that has to be quoted, such as one with a colon in it.
#[test]
fn generated_lines_are_not_too_long() {
    let stubs = fs::read_dir(root().join("collection/plugins/modules")).unwrap();
    let mut long = Vec::new();
    for path in stubs.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "py"))
    {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| line.chars().count() > 160);
        long.extend(lines.map(|line| format!("{}: {line}", path.display())));
    }
    assert!(long.is_empty(), "write these option texts without a colon:\n{}", long.join("\n"));
}

/// A longer one has a second room that nobody has found yet.
#[test]
fn source_files_are_short() {
    const MOST_LINES: usize = 450;
    let mut long = Vec::new();
    let mut seen = 0;
    for (folder, _) in packages().values() {
        for part in ["src", "tests"] {
            sources(&folder.join(part), &mut |path| {
                seen += 1;
                let lines = fs::read_to_string(path).unwrap().lines().count();
                if lines > MOST_LINES {
                    long.push(format!("{}: {lines} lines", path.display()));
                }
            });
        }
    }
    assert!(seen > 200, "the test has found the files: {seen}");
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn arrows_lead_down() {
    let packages = packages();
    let is_module = |name: &str| packages[name].0.parent().unwrap().ends_with("modules");
    let layer = |name: &str| {
        let name = if is_module(name) { "modules" } else { name };
        LAYERS.iter().position(|layer| layer.contains(&name))
    };
    let mut uphill = Vec::new();
    for (name, (_, depends)) in &packages {
        for other in depends.iter().filter(|other| packages.contains_key(*other)) {
            let is_downhill = match (layer(name), layer(other)) {
                (Some(own), Some(its)) => own < its,
                // What is in no layer is at the top: programs, and the protocol of Ansible that only they and the steps see.
                (_, None) if other == "ansible" => is_module(name) || ["dispatch", "xtask"].contains(&name.as_str()),
                (Some(_), None) => false,
                (None, _) => true,
            };
            if !is_downhill {
                uphill.push(format!("{name} -> {other}"));
            }
        }
    }
    assert_eq!(uphill, Vec::<String>::new());
}

#[test]
fn a_wrapped_error_is_asked_what_it_says() {
    let packages = packages();
    let mut files = Vec::new();
    for (name, (folder, _)) in &packages {
        sources(&folder.join("src"), &mut |path| {
            files.push((name.clone(), path.to_owned(), syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap()));
        });
    }
    // Where errors that explain themselves are: by the crate's name, and by the name of the module.
    let mut homes: BTreeSet<(String, String)> = BTreeSet::new();
    for (package, path, file) in &files {
        for (error, _) in explained(file) {
            homes.insert((package.clone(), error.clone()));
            homes.insert((path.file_stem().unwrap().to_string_lossy().into_owned(), error));
        }
    }
    assert!(homes.len() > 30, "the test has found the errors: {homes:?}");
    let mut forgetful = Vec::new();
    let mut wrapping = 0;
    for (package, path, file) in &files {
        for (error, explain) in explained(file) {
            let explains = |path: &TypePath| {
                let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                match names.as_slice() {
                    [name] => homes.contains(&(package.clone(), name.clone())) || name == "WaitError",
                    [.., home, name] => homes.contains(&(home.clone(), name.clone())),
                    [] => false,
                }
            };
            for (variant, fields) in variants(file, &error) {
                if !fields.iter().any(|field| mentions(&field.ty, &explains)) {
                    continue;
                }
                wrapping += 1;
                if !asks(explain, variant.as_deref()) {
                    forgetful.push(format!("{}: {error}::{}", path.display(), variant.unwrap_or_default()));
                }
            }
        }
    }
    assert!(wrapping > 15, "the test has found what wraps: {wrapping}");
    assert_eq!(forgetful, Vec::<String>::new(), "what a wrapped error says is lost; begin with `error.explain()`");
}

fn sources(folder: &Path, take: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, take);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            take(&path);
        }
    }
}

/// The types of a file that implement `Explain`.
fn explained(file: &File) -> impl Iterator<Item = (String, &ItemImpl)> {
    file.items.iter().filter_map(|item| {
        let Item::Impl(implementation) = item else { return None };
        let (name, _) = implementation.trait_.as_ref()?;
        let Type::Path(of) = &*implementation.self_ty else { return None };
        let is_explain = name.segments.last()?.ident == "Explain";
        is_explain.then(|| (of.path.segments.last().unwrap().ident.to_string(), implementation))
    })
}

/// The variants of an error with their fields; a struct has one without a name.
fn variants<'a>(file: &'a File, error: &str) -> Vec<(Option<String>, &'a Fields)> {
    let found = file.items.iter().find_map(|item| match item {
        Item::Enum(item) if item.ident == error => {
            Some(item.variants.iter().map(|variant| (Some(variant.ident.to_string()), &variant.fields)).collect())
        }
        Item::Struct(item) if item.ident == error => Some(vec![(None, &item.fields)]),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{error} and what it explains stand in different files"))
}

/// Whether a type mentions such a path, however it is wrapped.
fn mentions(field: &Type, wanted: &dyn Fn(&TypePath) -> bool) -> bool {
    struct Finder<'a> {
        wanted: &'a dyn Fn(&TypePath) -> bool,
        found: bool,
    }
    impl<'ast> Visit<'ast> for Finder<'_> {
        fn visit_path(&mut self, path: &'ast TypePath) {
            self.found |= (self.wanted)(path);
            visit::visit_path(self, path);
        }
    }
    let mut finder = Finder { wanted, found: false };
    finder.visit_type(field);
    finder.found
}

/// Whether every arm for a variant calls `explain` on what it wraps; for a struct, whether the whole does.
fn asks(implementation: &ItemImpl, variant: Option<&str>) -> bool {
    struct Calls(bool);
    impl<'ast> Visit<'ast> for Calls {
        fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
            self.0 |= call.method == "explain";
            visit::visit_expr_method_call(self, call);
        }

        // `Explain::explain`, handed to what maps.
        fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
            self.0 |= path.path.segments.last().is_some_and(|segment| segment.ident == "explain");
        }
    }
    struct Arms<'a> {
        variant: &'a str,
        silent: usize,
        seen: usize,
    }
    impl<'ast> Visit<'ast> for Arms<'_> {
        fn visit_arm(&mut self, arm: &'ast Arm) {
            if names(&arm.pat, self.variant) {
                let mut calls = Calls(false);
                calls.visit_expr(&arm.body);
                self.seen += 1;
                self.silent += usize::from(!calls.0);
            }
            visit::visit_arm(self, arm);
        }
    }
    let method = implementation.items.iter().find_map(|item| match item {
        ImplItem::Fn(method) if method.sig.ident == "explain" => Some(method),
        _ => None,
    });
    let method = method.unwrap();
    let mut calls = Calls(false);
    calls.visit_block(&method.block);
    let Some(variant) = variant else { return calls.0 };
    let mut arms = Arms { variant, silent: 0, seen: 0 };
    arms.visit_block(&method.block);
    arms.seen > 0 && arms.silent == 0
}

/// Whether a pattern names a variant, alone or among others.
fn names(pattern: &Pat, variant: &str) -> bool {
    let is = |path: &TypePath| path.segments.last().is_some_and(|segment| segment.ident == variant);
    match pattern {
        Pat::Or(or) => or.cases.iter().any(|case| names(case, variant)),
        Pat::Ident(bound) => bound.subpat.as_ref().is_some_and(|(_, pattern)| names(pattern, variant)),
        Pat::Path(path) => is(&path.path),
        Pat::Struct(found) => is(&found.path),
        Pat::TupleStruct(found) => is(&found.path),
        _ => false,
    }
}
