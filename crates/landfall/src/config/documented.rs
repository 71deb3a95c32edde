//! The configuration files shown in `docs/configuration.md` are read as they stand.

use std::path::Path;

use landfall_package::ModelConfig;
use landfall_package::steps::{PostStep, PreStep};
use landfall_predict::ServingConfig;

use super::{ModelFile, ServeConfig, ServeFile};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

fn page() -> String {
    std::fs::read_to_string(PAGE).unwrap()
}

/// The file on the page that begins with a comment of its name.
fn shown(name: &str) -> String {
    let page = page();
    let start = page.find(&format!("```yaml\n# {name}\n")).unwrap() + "```yaml\n".len();
    let length = page[start..].find("```").unwrap();
    page[start..start + length].to_owned()
}

#[test]
fn the_servers_file_has_every_field_and_the_defaults() {
    let mut file: ServeFile = serde_saphyr::from_str(&shown("server.yaml")).unwrap();
    let models = std::mem::take(&mut file.models);
    assert!(!format!("{file:?}").contains("None"), "a field is not shown: {file:?}");
    file.models = models;
    let shown = file.over_defaults(Path::new("/etc/landfall")).unwrap();
    assert_eq!(shown.repository.as_deref(), Some(Path::new("/etc/landfall/models")));
    assert_eq!(shown.models[0].path, Path::new("/etc/landfall/fraud.landfall"));
    // These have no default to show.
    let defaults = ServeConfig { repository: None, models: Vec::new(), workers: 0, ..shown };
    assert_eq!(format!("{defaults:?}"), format!("{:?}", ServeConfig::default()));
}

#[test]
fn a_models_settings_have_every_field_and_the_defaults() {
    let file: ModelFile = serde_saphyr::from_str(&shown("model.yaml")).unwrap();
    assert!(!format!("{file:?}").contains("None"), "a field is not shown: {file:?}");
    let shown = file.serving().unwrap();
    assert_eq!(shown.padding.as_ref().unwrap().inputs.len(), 2);
    // These have no default to show.
    let defaults = ServingConfig { max_request_rows: None, timeout: None, padding: None, ..shown };
    assert_eq!(format!("{defaults:?}"), format!("{:?}", ServingConfig::default()));
    assert_eq!(file.settings().versions, ModelFile::default().settings().versions);
}

#[test]
fn a_manifest_has_every_field() {
    let manifest: ModelConfig = serde_saphyr::from_str(&shown("manifest.yaml")).unwrap();
    assert!(!format!("{:?}", manifest.serving).contains("None"), "{:?}", manifest.serving);
    assert_eq!(manifest.tolerance, Some(landfall_package::Tolerance::default()));
    assert_eq!((manifest.preprocess.len(), manifest.postprocess.len()), (5, 2));
    assert!(!manifest.description.is_empty() && !manifest.data.is_empty());
    assert!(!manifest.metrics.is_empty());
}

#[test]
fn every_step_is_described() {
    let page = page();
    let none = r#"{"none_of_them": {}}"#;
    let before = serde_json::from_str::<PreStep>(none).unwrap_err().to_string();
    let after = serde_json::from_str::<PostStep>(none).unwrap_err().to_string();
    // The message lists what was expected, each name in backquotes.
    for message in [before, after] {
        let names: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        assert!(names.len() > 5, "{message}");
        for name in names {
            assert!(page.contains(&format!("`{name}`")), "{name} is not described");
        }
    }
}
