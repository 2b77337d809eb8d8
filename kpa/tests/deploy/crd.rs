//! The CustomResourceDefinition that is installed is the one of the code.

use platform_kubernetes::objects::definition;
use serde_json::Value;
use std::path::Path;

/// To write it anew: set `KPA_WRITE_CRD=1` and run this test.
#[test]
fn the_definition_that_is_installed_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/crd.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let definition = definition();
    if std::env::var_os("KPA_WRITE_CRD").is_some() {
        let remark: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let yaml = serde_saphyr::to_string(&definition).unwrap();
        std::fs::write(&path, format!("{}\n{yaml}", remark.join("\n")).trim_start()).unwrap();
        return;
    }
    let installed: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(installed["metadata"]["name"], definition["metadata"]["name"]);
    assert_eq!(installed["spec"], definition["spec"], "KPA_WRITE_CRD=1 writes it");
}
