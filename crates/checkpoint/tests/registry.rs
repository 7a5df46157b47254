//! Names of models that need no download.

use checkpoint::{Error, registry};

#[test]
fn a_path_is_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(registry::resolve(path).unwrap(), folder.path());
}

#[test]
fn an_unknown_name_lists_what_is_possible() {
    for name in ["smollm", "", "no/such/folder", "./nothing", "nothing.gguf", "folder/nothing.gguf", "/nowhere/at/all"]
    {
        let error = registry::resolve(name).unwrap_err();
        assert!(matches!(error, Error::UnknownModel { .. }), "{name}: {error}");
        let text = error.to_string();
        for part in [name, "smollm2-135m", "config.json", ".gguf", "hub id"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\n'));
    }
}

#[cfg(not(feature = "hub"))]
#[test]
fn without_the_hub_a_hub_id_says_so() {
    let text = registry::resolve("Qwen/Qwen2.5-0.5B-Instruct").unwrap_err().to_string();
    assert!(text.contains("feature `hub` is off"), "{text}");
}

#[test]
fn the_built_in_models_are_listed() {
    assert!(registry::built_in_names().any(|name| name == "smollm2-135m"));
}
