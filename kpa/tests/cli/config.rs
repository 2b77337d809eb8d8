//! `kpa config`.

use crate::support::run;
use std::fs;

const MAP: &str = "# The cluster's.\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata:\n";

#[test]
fn every_key_with_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.yaml"), format!("{MAP}  stable-window: \"30s\"\n  grace: \"1s\"\n")).unwrap();
    let (code, built_in, remarks) = run(folder.path(), &["config"]);
    assert_eq!((code, remarks.as_str()), (0, ""));
    let (first, second) = built_in.split_once("\n\n").unwrap();
    for (table, name, keys) in [
        (first, "CONFIG-AUTOSCALER", domain::defaults::CONFIG_KEYS),
        (second, "CONFIG-ACTIVATOR", domain::activator_config::ACTIVATOR_KEYS),
    ] {
        assert_eq!(table.lines().count(), keys.len() + 1);
        assert_eq!(table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), [name, "VALUE", "ORIGIN"]);
        for (line, row) in table.lines().skip(1).zip(keys) {
            assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [row.key, row.default, "default"]);
        }
    }
    let (code, set, remarks) = run(folder.path(), &["config", "c.yaml"]);
    assert_eq!(code, 0);
    let is_value = |line: &&str| !line.is_empty() && !line.ends_with("default") && !line.ends_with("ORIGIN");
    let changed: Vec<&str> = set.lines().filter(is_value).collect();
    assert_eq!(changed.len(), 1, "{set}");
    assert_eq!(changed[0].split_whitespace().collect::<Vec<_>>(), ["stable-window", "30s", "c.yaml:2"]);
    assert!(remarks.contains("is not a key of config-autoscaler"), "{remarks}");
    assert!(remarks.contains("no ConfigMap config-activator there"), "{remarks}");

    let map = MAP.replace("config-autoscaler", "config-activator");
    fs::write(folder.path().join("a.yaml"), format!("{map}  domain: models.lan\n  exempt-pahts: /x\n")).unwrap();
    let (code, set, remarks) = run(folder.path(), &["config", "."]);
    assert_eq!(code, 0);
    let row = set.lines().find(|line| line.starts_with("domain ")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["domain", "models.lan", "a.yaml:2"]);
    assert!(remarks.contains("is not a key of config-activator") && remarks.contains("exempt-paths"), "{remarks}");
}

/// What is printed can be kept as the file that is read.
#[test]
fn the_yaml_reads_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.yaml"), format!("{MAP}  max-scale: \"7\"\n")).unwrap();
    let (_, yaml, _) = run(folder.path(), &["config", "c.yaml", "-o", "yaml"]);
    assert!(yaml.contains("  max-scale: \"7\" # c.yaml:2\n"), "{yaml}");
    assert!(yaml.contains("  min-scale: \"0\" # default\n"), "{yaml}");
    fs::create_dir(folder.path().join("again")).unwrap();
    fs::write(folder.path().join("again/c.yaml"), &yaml).unwrap();
    assert_eq!(yaml.matches("---\n").count(), 1, "two documents");
    let values = |text: &str| -> Vec<(String, String)> {
        let pair = |line: &str| {
            let mut words = line.split_whitespace().map(ToOwned::to_owned);
            (words.next().unwrap(), words.next().unwrap())
        };
        text.lines().filter(|line| !line.is_empty()).map(pair).collect()
    };
    let (_, first, _) = run(folder.path(), &["config", "c.yaml"]);
    let (_, second, _) = run(folder.path(), &["config", "again"]);
    assert_eq!(values(&first), values(&second));
    assert!(!second.contains(" default\n"), "{second}");
}

#[test]
fn a_wrong_map_is_told_whole_and_none_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.yaml"), format!("{MAP}  stable-window: \"1s\"\n  max-scale: \"-1\"\n")).unwrap();
    let (code, out, errors) = run(folder.path(), &["config", "c.yaml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("stable-window") && errors.contains("max-scale"), "{errors}");
    let activator = MAP.replace("config-autoscaler", "config-activator");
    fs::write(folder.path().join("c.yaml"), format!("{activator}  trusted-proxies: all\n  drain-grace: \"1\"\n"))
        .unwrap();
    let (code, out, errors) = run(folder.path(), &["config", "c.yaml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("trusted-proxies") && errors.contains("drain-grace"), "{errors}");
    fs::write(folder.path().join("c.yaml"), "").unwrap();
    let (code, out, remarks) = run(folder.path(), &["config", "c.yaml"]);
    assert_eq!((code, out.lines().count()), (0, 37));
    assert!(remarks.contains("built-in"), "{remarks}");
    let (code, _, errors) = run(folder.path(), &["config", "missing.yaml"]);
    assert_eq!(code, 1);
    assert!(errors.contains("missing.yaml"), "{errors}");
}
