//! Patches: parts of objects, merged into those of the manifests before anything is read from them.
//!
//! Invariant: a patch that cannot be used takes nothing away. While its file is faulty, what the file last said about an
//! object stays in force; a file that could never be read lets nothing be scaled down (kpa-behaviour 1.6).

use super::document::{Document, documents};
use super::fault::Fault;
use super::lines::path;
use super::merge;
use super::{Role, Source};
use domain::Problem;
use domain::annotations::did_you_mean;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Objects that are named when a patch fits none of them.
const OBJECTS_SHOWN_MAX: usize = 5;

/// What is in force of each patch file that could be read once.
pub(super) type Known = BTreeMap<PathBuf, Vec<Arc<Document>>>;

/// What patches did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// To be remembered for the next reading.
    pub(super) known: Known,
    /// Everything wrong with the patches.
    pub(super) problems: Vec<Problem>,
    /// What is wrong with files that could never be read: they may speak of any object.
    pub(super) lost: Vec<Problem>,
}

/// One patch file.
struct PatchFile<'a> {
    path: &'a Path,
    patches: Vec<Arc<Document>>,
    faults: Vec<Fault>,
}

/// Merges the patches among `sources` into `targets`. `is_kept` tells of a patch that its object is there although it
/// cannot be read now; `namespace` is that of objects which name none.
pub(super) fn apply(
    sources: &[Source],
    targets: &mut [Document],
    namespace: &str,
    before: Option<&Known>,
    is_kept: impl Fn(&Document) -> bool,
) -> Outcome {
    let mut out = Outcome::default();
    for source in sources.iter().filter(|source| source.role == Role::Patch) {
        let file = read(source, namespace);
        let before = before.and_then(|known| known.get(file.path));
        let unreadable = !file.faults.is_empty();
        let mut faults = file.faults;
        let mut found: Vec<(Arc<Document>, Option<usize>)> = Vec::new();
        for patch in file.patches {
            match target(&patch, targets, namespace) {
                Ok(at) => found.push((patch, Some(at))),
                Err(_) if is_kept(&patch) => found.push((patch, None)),
                Err(fault) => faults.push(fault),
            }
        }
        let lost = unreadable && before.is_none();
        let consequence = match (lost, before.is_some_and(|before| !before.is_empty())) {
            (true, _) => "it changes nothing; no service is scaled down until it is mended",
            (false, true) => "what this file last said of its objects stays in force",
            (false, false) => "it changes nothing",
        };
        if !faults.is_empty() {
            let is_named = |old: &Document| found.iter().any(|(new, _)| same_target(new, old));
            let kept: Vec<Arc<Document>> = before.into_iter().flatten().filter(|old| !is_named(old)).cloned().collect();
            found.extend(kept.into_iter().map(|old| {
                let at = target(&old, targets, namespace).ok();
                (old, at)
            }));
        }
        for fault in faults {
            let problem = fault.into_problem(file.path, consequence);
            if lost {
                out.lost.push(problem.clone());
            }
            out.problems.push(problem);
        }
        for (patch, at) in &found {
            if let Some(target) = at.and_then(|at| targets.get_mut(at)) {
                target.apply(Arc::clone(patch));
            }
        }
        if !lost {
            let patches = found.into_iter().map(|(patch, _)| patch);
            out.known.entry(file.path.to_owned()).or_default().extend(patches);
        }
    }
    out
}

fn read<'a>(source: &'a Source, namespace: &str) -> PatchFile<'a> {
    let mut file = PatchFile { path: &source.path, patches: Vec::new(), faults: Vec::new() };
    for document in documents(&source.path, &source.text, namespace) {
        match document.and_then(|document| usable(document, namespace)) {
            Ok(patch) => file.patches.push(Arc::new(patch)),
            Err(fault) => file.faults.push(fault),
        }
    }
    file
}

/// The document, if it says which object it is about and can be merged.
fn usable(document: Document, namespace: &str) -> Result<Document, Fault> {
    const NAMED: &str = "apiVersion, kind and metadata.name of the object to patch";
    if document.value.is_array() {
        let what = "is a list; JSON patches (RFC 6902) are not read";
        return Err(Fault::whole(
            document.line,
            what,
            "a part of an object, with its apiVersion, kind and metadata.name",
        ));
    }
    for (pointer, key) in [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")] {
        if document.text_at(pointer).is_empty() {
            let whole = Fault::whole(document.line, format!("names no object: it has no {key}"), NAMED);
            return Err(Fault { key: key.into(), ..whole });
        }
    }
    match merge::check(&document.value) {
        Ok(()) => Ok(document),
        Err(wrong) => {
            let key = path(&wrong.at);
            Err(Fault {
                line: document.line_of(&wrong.at),
                object: document.object(namespace),
                key,
                what: wrong.what,
                expected: wrong.expected,
            })
        }
    }
}

/// Whether two patches are about the same object.
fn same_target(a: &Document, b: &Document) -> bool {
    ["/apiVersion", "/kind", "/metadata/namespace", "/metadata/name"]
        .iter()
        .all(|pointer| a.text_at(pointer) == b.text_at(pointer))
}

/// Which of `targets` the patch is about. Without a namespace: the one in the default namespace, else the only one.
fn target(patch: &Document, targets: &[Document], namespace: &str) -> Result<usize, Fault> {
    let namespace_of = |document: &Document| match document.text_at("/metadata/namespace") {
        "" => namespace.to_owned(),
        text => text.to_owned(),
    };
    let same = |document: &Document| {
        ["/apiVersion", "/kind", "/metadata/name"].iter().all(|at| document.text_at(at) == patch.text_at(at))
    };
    let mut fitting: Vec<usize> = (0..targets.len()).filter(|at| same(&targets[*at])).collect();
    let wanted = patch.text_at("/metadata/namespace");
    if wanted.is_empty() {
        let default: Vec<usize> =
            fitting.iter().copied().filter(|at| namespace_of(&targets[*at]) == namespace).collect();
        if !default.is_empty() {
            fitting = default;
        }
    } else {
        fitting.retain(|at| namespace_of(&targets[*at]) == wanted);
    }
    let mut objects: Vec<String> = fitting.iter().map(|at| targets[*at].object(namespace)).collect();
    objects.sort();
    objects.dedup();
    if objects.len() > 1 {
        let what = format!("could mean {}", objects.join(" or "));
        return Err(fault(patch, "metadata.namespace", what, "the namespace of one of them".into(), namespace));
    }
    // A part of an object that stands among the manifests by mistake is not what is patched.
    let whole = fitting.iter().copied().find(|at| !targets[*at].is_part());
    whole.or_else(|| fitting.first().copied()).ok_or_else(|| {
        let what = format!("there is no {} to patch", patch.object(namespace));
        fault(patch, "metadata.name", what, meant(patch, targets, namespace), namespace)
    })
}

fn fault(patch: &Document, key: &str, what: String, expected: String, namespace: &str) -> Fault {
    Fault {
        line: patch.line_of(&super::lines::steps(key)),
        object: patch.object(namespace),
        key: key.into(),
        what,
        expected,
    }
}

/// What a patch that fits no object may have meant.
fn meant(patch: &Document, targets: &[Document], namespace: &str) -> String {
    let name = patch.text_at("/metadata/name");
    if let Some(other) = targets.iter().find(|target| target.text_at("/metadata/name") == name) {
        let version = other.text_at("/apiVersion");
        return format!("{} of {version} (did you mean that?)", other.object(namespace));
    }
    let of_kind = targets.iter().filter(|target| target.text_at("/kind") == patch.text_at("/kind"));
    if let Some(near) = did_you_mean(name, of_kind.map(|target| target.text_at("/metadata/name"))) {
        return near;
    }
    let objects: Vec<String> = targets.iter().take(OBJECTS_SHOWN_MAX).map(|target| target.object(namespace)).collect();
    if objects.is_empty() { "an object of the manifests".into() } else { format!("one of {}", objects.join(", ")) }
}
