//! `cargo xtask bench`: our engine and others, measured in turn on one machine.
//!
//! Each repetition is a process of its own, so that memory is that of one engine and nothing of an earlier repetition
//! helps a later one. In every round each engine runs once: a machine that slows down, or does other things as well,
//! slows all of them. Raw numbers go to a JSON file; tables and plots are made from it by the engine's command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tinyjson::JsonValue;

use crate::bench_options::{Options, Stages, without_places};
use crate::bench_peers::{self, Peer, limit_threads};
use crate::cargo;
use crate::chapters::Course;
use crate::clock::Moment;
use crate::engine::{self, who};
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::json::Json;
use crate::process;
use crate::progress::Progress;
use crate::say;
use crate::setup;
use crate::stages::{self, STAGES, Stage};
use crate::status_line::StatusLine;
use crate::tell;
use crate::workspace::{Solution, Workspace, write_text};

/// The format of the file, as `crates/cli` reads it.
const FORMAT: f64 = 1.0;
/// An engine that recomputes the whole sequence for each token is measured with fewer.
const DENSE_TOKENS: usize = 16;
const DENSE_CONTEXT: usize = 1024;

/// One engine at one stage.
struct Contender {
    label: String,
    program: Program,
}

enum Program {
    Engine { binary: PathBuf, stage: Stage, is_last: bool },
    Peer { peer: &'static Peer, model: PathBuf },
}

pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<Verdict> {
    let options = Options::parse(arguments)?;
    let course = Course::load(workspace)?;
    // What may be missing comes before what takes long.
    for peer in &options.peers {
        peer.ensure()?;
    }
    setup::ensure(workspace)?;

    let start = Moment::now();
    let engines = engines(workspace, &course, &options)?;
    let binary = engines.iter().find_map(|contender| match &contender.program {
        Program::Engine { binary, .. } => Some(binary.clone()),
        Program::Peer { .. } => None,
    });
    let binary = binary.ok_or_else(|| Error::new("there is no engine to measure"))?;
    let model = Model::describe(&binary, &options.model)?;
    let peers = peers(&binary, &options, &model)?;
    let contenders: Vec<Contender> = engines.into_iter().chain(peers).collect();
    let machine = machine(&binary, options.threads)?;

    let runs = rounds(workspace, &options, &contenders)?;
    let results = Json::Object(vec![
        ("format", Json::Number(FORMAT)),
        ("date", Json::text(start.readable())),
        ("commit", Json::text(commit(workspace))),
        ("command", Json::text(without_places(arguments))),
        ("machine", Json::Written(machine)),
        ("model", Json::Written(model.json)),
        ("runs", Json::List(runs.into_iter().map(Json::Written).collect())),
    ]);
    let output = match options.output {
        Some(folder) => folder,
        None => workspace.state().join("bench").join(start.compact()),
    };
    let file = output.join("measurements.json");
    write_text(&file, &format!("{results}\n"))?;
    say!();
    let mut report = Command::new(binary);
    match process::run_attached(report.arg("report").arg(&file).arg("--output").arg(&output))?.success() {
        true => Ok(Verdict::Passed),
        false => Err(Error::already_reported()),
    }
}

/// Our own engines, built in release, each with the stages that were asked for.
fn engines(workspace: &Workspace, course: &Course, options: &Options) -> Result<Vec<Contender>> {
    let solutions = match &options.solutions {
        Some(solutions) => solutions.clone(),
        None => {
            let (solution, why) = engine::default_solution(workspace, course);
            tell!("using the {} ({why}; --solution chooses)", who(solution));
            vec![solution]
        }
    };
    let mut contenders = Vec::new();
    for solution in solutions {
        let reached = match solution {
            Solution::Reference => &STAGES,
            Solution::Student => stages::reached(course, &Progress::load(workspace)),
        };
        let chosen = match &options.stages {
            Stages::Highest => reached.last().copied().into_iter().collect(),
            Stages::All => reached.to_vec(),
            Stages::Chosen(stages) => stages.clone(),
        };
        let built = engine::build(workspace, solution, engine::is_hub_id(&options.model))?;
        let binary = keep(workspace, solution, &built)?;
        let last = chosen.last().copied();
        contenders.extend(chosen.into_iter().map(|stage| Contender {
            label: format!("{}, {}", solution.name(), stage.name),
            program: Program::Engine { binary: binary.clone(), stage, is_last: Some(stage) == last },
        }));
    }
    Ok(contenders)
}

/// Copies a binary away: the other solution's has the same name in the same folder.
fn keep(workspace: &Workspace, solution: Solution, binary: &Path) -> Result<PathBuf> {
    let folder = workspace.target().join("bench").join(solution.name());
    fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, &e))?;
    let kept = folder.join(binary.file_name().unwrap_or_default());
    // A program that runs cannot be written over, but it can be replaced.
    let fresh = kept.with_extension("new");
    fs::copy(binary, &fresh).map_err(|e| Error::io("copy to", &fresh, &e))?;
    fs::rename(&fresh, &kept).map_err(|e| Error::io("rename", &fresh, &e))?;
    Ok(kept)
}

/// Where the model is that `--model` names: a file or a folder.
pub fn model_path(binary: &Path, name: &str) -> Result<PathBuf> {
    Model::describe(binary, name).map(|model| model.path)
}

/// What the engine's command line knows about a model.
struct Model {
    path: PathBuf,
    json: String,
}

impl Model {
    fn describe(binary: &Path, name: &str) -> Result<Self> {
        let line = ask(Command::new(binary).args(["info", "--json", "--model", name]))?;
        let unreadable = || Error::new(format!("the engine described the model in an unknown way: {line}"));
        let value: JsonValue = line.parse().map_err(|_| unreadable())?;
        let path = PathBuf::from(cargo::text(&value, &["path"]).ok_or_else(unreadable)?);
        let JsonValue::Object(fields) = &value else { return Err(unreadable()) };
        let model = fields.get("model").ok_or_else(unreadable)?;
        Ok(Self { path, json: model.stringify().map_err(|e| Error::new(e.to_string()))? })
    }

    fn is_gguf(&self) -> bool {
        self.path.is_file()
    }
}

fn machine(binary: &Path, threads: usize) -> Result<String> {
    let status = StatusLine::new(true);
    status.show("measuring the machine");
    ask(Command::new(binary).args(["machine", "--json", "--threads", &threads.to_string()]))
}

/// The other engines, each with the model in a format that it reads.
fn peers(binary: &Path, options: &Options, model: &Model) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for peer in &options.peers {
        let model = match peer.name {
            "llama.cpp" => gguf(options, model)?,
            _ => mlx_folder(binary, options, model)?,
        };
        contenders.push(Contender { label: peer.name.to_owned(), program: Program::Peer { peer, model } });
    }
    Ok(contenders)
}

fn gguf(options: &Options, model: &Model) -> Result<PathBuf> {
    match &options.llama_model {
        Some(file) => existing(file, "--llama-model"),
        None if model.is_gguf() => Ok(model.path.clone()),
        None => Err(Error::new(format!("llama.cpp reads GGUF files, and {} is a folder", options.model))
            .remedy("give the same model as `--llama-model FILE.gguf`")),
    }
}

fn mlx_folder(binary: &Path, options: &Options, model: &Model) -> Result<PathBuf> {
    match &options.mlx_model {
        Some(folder) => existing(folder, "--mlx-model"),
        None if !model.is_gguf() => Ok(model.path.clone()),
        None => converted(binary, options, model),
    }
}

/// The model's GGUF file as a folder for mlx-lm, made once; its weights stay the same numbers.
fn converted(binary: &Path, options: &Options, model: &Model) -> Result<PathBuf> {
    let name = model.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = bench_peers::folder()?.join("models").join(format!("{name}-mlx"));
    if !folder.is_dir() {
        tell!("setup: converting {} for mlx-lm", options.model);
        let mut convert = Command::new(binary);
        convert.args(["convert", "--model", &options.model, "--output"]).arg(&folder);
        if !process::run_attached(&mut convert)?.success() {
            return Err(Error::already_reported());
        }
    }
    Ok(folder)
}

fn existing(path: &str, option: &str) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(_) => Err(Error::new(format!("`{option} {path}`: there is no such file or folder"))),
    }
}

/// All repetitions of all contenders, as the lines of JSON that they wrote.
fn rounds(workspace: &Workspace, options: &Options, contenders: &[Contender]) -> Result<Vec<String>> {
    let mut runs = Vec::new();
    for round in 0..options.repeats {
        for contender in contenders {
            let status = StatusLine::new(true);
            status.show(&format!("round {} of {}: {}", round + 1, options.repeats, contender.label));
            let line = ask(&mut contender.command(workspace, options, round)?)
                .map_err(|error| Error::new(format!("{}: {error}", contender.label)))?;
            drop(status);
            let speeds = speeds(&line)
                .ok_or_else(|| Error::new(format!("{} reported something unreadable: {line}", contender.label)))?;
            tell!("round {} of {}: {:<22} {speeds}", round + 1, options.repeats, contender.label);
            runs.push(line);
        }
    }
    Ok(runs)
}

impl Contender {
    fn command(&self, workspace: &Workspace, options: &Options, round: usize) -> Result<Command> {
        let is_first = round == 0;
        let (mut command, generate_tokens, longest_context) = match &self.program {
            Program::Engine { binary, stage, is_last } => {
                let mut command = Command::new(binary);
                command.args(["bench", "--json", "--stage", stage.name, "--model", &options.model]);
                if options.profile && is_first && *is_last {
                    command.arg("--profile");
                }
                let is_dense = stage.name == "dense";
                let (tokens, context) = if is_dense { (DENSE_TOKENS, DENSE_CONTEXT) } else { (usize::MAX, usize::MAX) };
                (command, options.generate_tokens.min(tokens), context)
            }
            Program::Peer { peer, model } => {
                let mut command = peer.command(workspace)?;
                command.arg("--model").arg(model);
                (command, options.generate_tokens, peer.longest_context)
            }
        };
        let number = |value: usize| value.to_string();
        command.args(["--repeats", "1", "--threads", &number(options.threads)]);
        command.args(["--prompt-tokens", &number(options.prompt_tokens)]);
        command.args(["--generate-tokens", &number(generate_tokens)]);
        let sweep: Vec<String> =
            options.context_sweep.iter().filter(|&&n| n <= longest_context).copied().map(number).collect();
        // Long contexts take long, so one round does them.
        if is_first && !sweep.is_empty() {
            command.args(["--context-sweep", &sweep.join(",")]);
        }
        limit_threads(&mut command, options.threads);
        Ok(command)
    }
}

/// The one line that a program writes to standard output.
fn ask(command: &mut Command) -> Result<String> {
    let finished = process::output(command)?;
    match finished.stdout.lines().next() {
        Some(line) if finished.succeeded() => Ok(line.to_owned()),
        _ => Err(Error::new(reason(&finished.stderr))),
    }
}

/// Of what a failed program said, the part that explains it.
fn reason(stderr: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find_map(|line| line.strip_prefix("error: "));
    error.or(lines().next_back()).unwrap_or("it ended without a word").to_owned()
}

/// `prefill 480.0 tok/s, decode 160.0 tok/s` of a run.
fn speeds(line: &str) -> Option<String> {
    let value: JsonValue = line.parse().ok()?;
    let JsonValue::Object(fields) = &value else { return None };
    let number = |name: &str| fields.get(name)?.get::<f64>().copied();
    let tokens: Vec<f64> =
        fields.get("token_seconds")?.get::<Vec<JsonValue>>()?.iter().filter_map(|s| s.get::<f64>().copied()).collect();
    let prefill = number("prompt_tokens")? / number("prefill_seconds")?;
    let decode = tokens.len() as f64 / tokens.iter().sum::<f64>();
    Some(format!("prefill {prefill:7.1} tok/s, decode {decode:6.1} tok/s"))
}

/// The commit that is measured, or `unknown` without git.
pub fn commit(workspace: &Workspace) -> String {
    let git = |arguments: &[&str]| {
        let finished = process::output(Command::new("git").current_dir(workspace.root()).args(arguments)).ok()?;
        finished.succeeded().then(|| finished.stdout.trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => hash,
        _ => format!("{hash}-dirty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runs_speeds_are_shown_while_it_goes() {
        let line = r#"{"prompt_tokens": 128, "prefill_seconds": 0.5, "token_seconds": [0.01, 0.03], "more": null}"#;
        assert_eq!(speeds(line).unwrap(), "prefill   256.0 tok/s, decode   50.0 tok/s");
        assert_eq!(speeds("{}"), None);
        assert_eq!(speeds("not JSON"), None);
    }

    #[test]
    fn a_failure_is_explained_by_its_error_line() {
        assert_eq!(reason("loading\nerror: no such model\nadvice\n"), "no such model");
        assert_eq!(reason("Traceback\n  File x\nValueError: bad\n\n"), "ValueError: bad");
        assert_eq!(reason(""), "it ended without a word");
    }
}
