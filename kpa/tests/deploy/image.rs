//! The image: that it holds what the manifests start, as the user they name.

use crate::objects::{deploy, items, listed, read, text, union};
use std::collections::BTreeSet;

#[test]
fn the_image_has_every_program_that_is_started_and_runs_as_that_user() {
    let file = read(&deploy("Dockerfile"));
    let last_stage = &file[file.rfind("\nFROM ").expect("stages")..];
    let all = union(listed("base"), listed("release"));
    let mut programs = BTreeSet::new();
    for object in all.values() {
        for container in items(object, "/spec/template/spec/containers") {
            programs.insert(text(container, "/command/0").to_owned());
            assert_eq!(text(container, "/image"), concat!("kpa:", env!("CARGO_PKG_VERSION")));
            let user = object.pointer("/spec/template/spec/securityContext/runAsUser").unwrap();
            let group = object.pointer("/spec/template/spec/securityContext/runAsGroup").unwrap();
            assert!(last_stage.contains(&format!("\nUSER {user}:{group}\n")), "{user}:{group} in {last_stage}");
        }
    }
    assert_eq!(programs.len(), 3);
    for program in programs {
        let name = program.strip_prefix("/usr/local/bin/").expect("programs lie in /usr/local/bin");
        assert!(last_stage.contains(&format!("/out/{name}")), "{name} is not copied: {last_stage}");
    }
    assert!(last_stage.contains(" /usr/local/bin/"), "{last_stage}");
}

/// The build script builds what the image takes.
#[test]
fn the_build_makes_what_the_image_copies() {
    let (script, file) = (read(&deploy("build.sh")), read(&deploy("Dockerfile")));
    let line = script.lines().find_map(|line| line.strip_prefix("programs=(")).expect("a list of programs");
    let programs: Vec<&str> = line.trim_end_matches(')').split(' ').collect();
    assert_eq!(programs.len(), 3);
    for program in programs {
        assert!(file.contains(&format!("/out/{program}")), "the Dockerfile does not copy {program}");
    }
}
