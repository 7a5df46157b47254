//! A hub that does not answer as it should. Only with the client: `cargo test -p checkpoint --features hub --test hub`.

#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use checkpoint::registry;

/// A cache in which `acme/tiny` was downloaded completely.
fn cache() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("hub/models--acme--tiny");
    std::fs::create_dir_all(model.join("refs")).unwrap();
    std::fs::write(model.join("refs/main"), "abc123").unwrap();
    std::fs::create_dir_all(model.join("snapshots/abc123")).unwrap();
    std::fs::write(model.join("snapshots/abc123/config.json"), "{}").unwrap();
    home
}

/// Answers every request with one status, for as long as the process lives.
fn hub(status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let body = "{\"error\":\"x\"}";
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = (&stream).write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

/// What a process of its own makes of the name: the client reads its environment.
fn resolve(home: &Path, endpoint: &str, name: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", endpoint)
        .env("HUB_TEST_NAME", name)
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "run by the other tests"]
fn child() {
    println!(
        "\nresolved: {:?}",
        registry::resolve(&std::env::var("HUB_TEST_NAME").unwrap()).map_err(|e| e.to_string())
    );
}

#[test]
fn a_cached_model_answers_when_the_hub_does_not() {
    let home = cache();
    for status in [429, 500, 502, 503] {
        let output = resolve(home.path(), &hub(status), "acme/tiny");
        assert!(output.contains("resolved: Ok(") && output.contains("snapshots/abc123"), "{status}: {output}");
    }
    // Nobody listens.
    assert!(resolve(home.path(), "http://127.0.0.1:9", "acme/tiny").contains("resolved: Ok("));
}

#[test]
fn without_a_cached_model_the_reason_is_given() {
    let home = tempfile::tempdir().unwrap();
    for (status, said) in [
        (429, "too many requests"),
        (503, "HTTP status 503"),
        // Also what the hub answers for a name that does not exist.
        (401, "check the spelling"),
        (403, "accept the model's licence"),
    ] {
        let output = resolve(home.path(), &hub(status), "acme/tiny");
        assert!(output.contains("resolved: Err(") && output.contains(said), "{status}: {output}");
    }
}
