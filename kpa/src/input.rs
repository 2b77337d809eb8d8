//! What the commands that read manifests are given.
//!
//! Invariant: `kpa run` and `kpa check` with the same words read the same.

use anyhow::bail;
use platform_local::Inputs;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

/// Stands for standard input among files.
const STANDARD_INPUT: &str = "-";

/// Manifests, what is merged into them, and what stands for their images.
#[derive(Debug, clap::Args)]
pub(crate) struct Manifests {
    /// Files or folders of Kubernetes YAML; - is standard input, as in `kustomize build . | kpa run -`.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    beside: Beside,
}

/// What is merged into manifests, and what stands for their images.
#[derive(Debug, clap::Args)]
pub(crate) struct Beside {
    /// A part of an object (its apiVersion, kind and metadata.name, and what is different), merged into the manifests as
    /// kustomize merges it. May be repeated; the last one wins.
    #[arg(long = "patch", value_name = "PATCH")]
    patches: Vec<PathBuf>,
    /// What to run instead of an image. May be repeated.
    #[arg(long = "image", value_name = "IMAGE=COMMAND", value_parser = image)]
    images: Vec<(String, String)>,
}

impl Manifests {
    /// Where to read. Reads standard input to its end if it is named.
    pub(crate) fn inputs(&self) -> anyhow::Result<Inputs> {
        self.beside.inputs(&self.paths)
    }

    /// What to run instead of images.
    pub(crate) fn images(&self) -> BTreeMap<String, String> {
        self.beside.images()
    }
}

impl Beside {
    /// Where to read. Reads standard input to its end if it is named.
    pub(crate) fn inputs(&self, paths: &[PathBuf]) -> anyhow::Result<Inputs> {
        let inputs = inputs(paths)?;
        Ok(Inputs { patches: self.patches.clone(), ..inputs })
    }

    /// What to run instead of images.
    pub(crate) fn images(&self) -> BTreeMap<String, String> {
        self.images.iter().cloned().collect()
    }
}

/// Where to read without patches. Reads standard input to its end if it is named.
pub(crate) fn inputs(paths: &[PathBuf]) -> anyhow::Result<Inputs> {
    let (standard, files): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.iter().cloned().partition(|path| path.as_os_str() == OsStr::new(STANDARD_INPUT));
    let given = match standard.len() {
        0 => Vec::new(),
        1 => vec![platform_local::standard_input()?],
        _ => bail!("standard input (-) can be read once, and is named {} times", standard.len()),
    };
    Ok(Inputs { manifests: files, given, ..Inputs::default() })
}

/// `IMAGE=COMMAND`.
fn image(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((image, command)) if !image.is_empty() => Ok((image.to_owned(), command.to_owned())),
        _ => Err("expected IMAGE=COMMAND"),
    }
}
