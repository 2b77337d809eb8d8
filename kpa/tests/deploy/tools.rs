//! What only the real tools can tell, where they are installed.

use crate::objects::{Objects, assert_same, deploy, listed, objects, texts, union};
use std::io::Write;
use std::process::Command;

/// Runs it, or says that it is not there: past the test's own capture, so that everybody sees what was not tested.
pub(crate) fn tool(program: &str, args: &[&str]) -> Option<String> {
    match Command::new(program).args(args).current_dir(deploy("")).output() {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{program} {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Nothing is lost when this cannot be written.
            let _ = writeln!(std::io::stderr(), "NOT RUN: {program} is not installed: {program} {}", args.join(" "));
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// A kustomization as `kubectl` builds it.
pub(crate) fn kustomized(folder: &str) -> Option<Objects> {
    tool("kubectl", &["kustomize", folder]).map(|yaml| objects(&yaml))
}

#[test]
fn kubectl_builds_what_these_tests_read() {
    for folder in ["base", "release"] {
        if let Some(built) = kustomized(folder) {
            assert_same("kubectl kustomize", &built, folder, &listed(folder));
        }
    }
}

/// The overlay for listed namespaces: Roles with the rules of the ClusterRoles, programs that are told, nothing else changed.
#[test]
fn the_overlay_for_listed_namespaces_changes_rights_and_arguments_only() {
    let watched = ["--watch-namespace=team-a", "--watch-namespace=team-b"];
    let Some(mut built) = kustomized("overlays/namespaces") else { return };
    let mut base = listed("base");
    for name in ["kpa-activator", "kpa-autoscaler"] {
        for (cluster, local) in [("ClusterRole", "Role"), ("ClusterRoleBinding", "RoleBinding")] {
            base.remove(&(cluster.to_owned(), String::new(), name.to_owned())).unwrap();
            for team in ["team-a", "team-b"] {
                built.remove(&(local.to_owned(), team.to_owned(), name.to_owned())).unwrap();
            }
        }
        let deployment = built.get_mut(&("Deployment".to_owned(), "kpa-system".to_owned(), name.to_owned())).unwrap();
        let args = deployment.pointer_mut("/spec/template/spec/containers/0/args").unwrap().as_array_mut().unwrap();
        assert_eq!(args.split_off(args.len() - watched.len()), watched);
    }
    assert_same("the overlay without its Roles", &built, "the base without its ClusterRoles", &base);
}

/// A folder of `deploy/` with a component.
pub(crate) fn with_component(plain: &str, component: &str) -> Option<Objects> {
    let folder = tempfile::tempdir().unwrap();
    // kustomize takes no absolute paths.
    let up = "../".repeat(folder.path().canonicalize().unwrap().components().count() - 1);
    let root = format!("{up}{}", deploy("").canonicalize().unwrap().display());
    let overlay = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{root}/{plain}]\n\
         components: [{root}/{component}]\n"
    );
    std::fs::write(folder.path().join("kustomization.yaml"), overlay).unwrap();
    kustomized(folder.path().to_str().unwrap())
}

/// A component adds its files, and changes nothing but arguments.
#[test]
fn components_can_be_added() {
    for (component, file, argument) in [
        ("monitoring", "pod-monitors.yaml", None),
        ("namespace-selector", "rbac.yaml", Some("--namespace-selector=kpa.dev/enabled=true")),
    ] {
        let Some(mut built) = with_component("base", &format!("components/{component}")) else { return };
        if let Some(argument) = argument {
            let key = ("Deployment".to_owned(), "kpa-system".to_owned(), "kpa-autoscaler".to_owned());
            let container = built.get_mut(&key).unwrap().pointer_mut("/spec/template/spec/containers/0").unwrap();
            assert_eq!(texts(container, "/args").last().unwrap(), argument);
            container["args"].as_array_mut().unwrap().pop();
        }
        let file = objects(&crate::objects::read(&deploy(&format!("components/{component}/{file}"))));
        assert_same(component, &built, "base and its file", &union(listed("base"), file));
    }
}
