//! What depends on the environment: each test runs itself again, alone in a process with other variables.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use crate::support::{Start, assert_begins, counting, kernel};

const CHILD: &str = "EMULATOR_TEST_CHILD";

/// In the child: what `work` says. In the parent: nothing, and `child` starts it.
fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

fn child(test: &str, variables: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("children::{test}"), "--nocapture"]).env(CHILD, "1");
    command.envs(variables.iter().copied()).output().unwrap()
}

#[track_caller]
fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A folder that is deleted at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("emulator-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const TWICE: &str = "uint i = thread_position_in_grid.x;\nout[i] = 2.0f * x[i];";

fn assert_twice() {
    let out = Start::new(32, 32, 32).run(&kernel("twice", TWICE), &[&counting(32)]).unwrap();
    assert_eq!(out.as_slice::<f32>()[31], 62.0);
}

#[test]
fn a_missing_compiler() {
    if is_child() {
        let found = Start::new(32, 32, 32).finding(&kernel("twice", TWICE), &[&counting(32)]);
        assert_begins(
            &found,
            "twice: CXX is `/nowhere/c++`, which is no C++ compiler that can be run; the emulator of GPU kernels",
        );
        return;
    }
    assert_passed(&child("a_missing_compiler", &[("CXX", Path::new("/nowhere/c++"))]));
}

#[test]
fn a_cache_folder_that_cannot_be_written() {
    if is_child() {
        let found = Start::new(32, 32, 32).finding(&kernel("twice", TWICE), &[&counting(32)]);
        assert_begins(&found, "twice: cannot create ");
        assert!(found.contains("TINY_LLM_CACHE can name another folder"), "{found}");
        return;
    }
    let folder = Folder::new("file");
    let file = folder.0.join("file");
    fs::write(&file, "not a folder").unwrap();
    assert_passed(&child("a_cache_folder_that_cannot_be_written", &[("TINY_LLM_CACHE", &file)]));
}

#[test]
fn broken_entries_of_the_cache_are_built_anew() {
    if is_child() {
        return assert_twice();
    }
    let folder = Folder::new("cache");
    let run = || assert_passed(&child("broken_entries_of_the_cache_are_built_anew", &[("TINY_LLM_CACHE", &folder.0)]));
    run();
    let entries = || -> Vec<PathBuf> {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(folder.0.join("emulator")).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries
    };
    let built = entries();
    assert_eq!(built.len(), 2, "{built:?}"); // the runtime and the kernel
    let library = built.iter().map(|entry| entry.join("kernel.so")).find(|path| path.is_file()).unwrap();
    let whole = fs::read(&library).unwrap();
    for broken in [&whole[..whole.len() / 2], b"", b"no library at all"] {
        // Not written over: another process may have the old file in its memory.
        fs::remove_file(&library).unwrap();
        fs::write(&library, broken).unwrap();
        run();
        assert_eq!(entries(), built);
        assert!(fs::read(&library).unwrap().len() > 1000);
    }
    fs::remove_file(library.with_file_name("digest")).unwrap();
    run();
    assert_eq!(entries(), built);
}

#[test]
fn two_processes_at_once() {
    if is_child() {
        return assert_twice();
    }
    let folder = Folder::new("both");
    std::thread::scope(|scope| {
        let run = || child("two_processes_at_once", &[("TINY_LLM_CACHE", &folder.0)]);
        let both = [scope.spawn(run), scope.spawn(run)];
        for process in both {
            assert_passed(&process.join().unwrap());
        }
    });
    let left = fs::read_dir(folder.0.join("emulator")).unwrap().count();
    assert_eq!(left, 2, "nothing half-built stays");
}

#[test]
fn unchecked_kernels_give_the_same_numbers() {
    if is_child() {
        assert_twice();
        let sums = kernel(
            "unchecked",
            "threadgroup float tile[64];
            uint t = thread_index_in_threadgroup;
            tile[t] = x[t];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[t] = simd_sum(tile[63 - t]);",
        );
        let out = Start::new(64, 64, 64).run(&sums, &[&counting(64)]).unwrap();
        assert_eq!((out.as_slice::<f32>()[0], out.as_slice::<f32>()[63]), (1520.0, 496.0));
        assert!(mlx_custom::gpu::emulator::take_counters().is_empty());
        return;
    }
    assert_passed(&child("unchecked_kernels_give_the_same_numbers", &[("TINY_LLM_EMULATOR", Path::new("unchecked"))]));
}

#[test]
fn a_line_for_every_watched_launch_in_the_result_stream() {
    if is_child() {
        assert_twice();
        return assert_twice();
    }
    let folder = Folder::new("results");
    let file = folder.0.join("results.jsonl");
    let run = |file: &Path, mode: &str| {
        let variables = [("TINY_LLM_RESULTS", file), ("TINY_LLM_EMULATOR", Path::new(mode))];
        child("a_line_for_every_watched_launch_in_the_result_stream", &variables)
    };
    assert_passed(&run(&file, "unchecked"));
    assert!(!file.exists(), "nothing is counted in launches that nobody watches");
    assert_passed(&run(&file, "checked"));
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, lines[1]), "{text}");
    let begin = r#"{"kernel":"twice","grid":[32, 1, 1],"threadgroup":[32, 1, 1],"device_bytes_read":128,"#;
    assert!(lines[0].starts_with(begin), "{text}");
    // A folder is no file.
    let refused = run(&folder.0, "checked");
    let printed = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && printed.contains("cannot write what was counted to "), "{printed}");
}

#[test]
fn an_error_of_the_compiler_names_the_line() {
    let wrong = kernel("misspelt", "uint i = thread_position_in_grid.x;\n\nout[i] = y[i];");
    let found = Start::new(32, 32, 32).finding(&wrong, &[&counting(32)]);
    assert_begins(&found, "misspelt: the kernel misspelt does not compile:\n  kernels/misspelt.metal:3:10: error: ");
}
