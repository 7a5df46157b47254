//! What `cargo xtask bench` was asked for.

use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

use crate::arguments::{Accepts, Arguments};
use crate::bench_peers::{PEERS, Peer};
use crate::error::{Error, Result};
use crate::stages::{self, Stage};
use crate::workspace::Solution;

#[derive(Debug)]
pub struct Options {
    /// `None`: as for `chat`.
    pub solutions: Option<Vec<Solution>>,
    pub stages: Stages,
    pub peers: Vec<&'static Peer>,
    pub model: String,
    /// The same model for peers that read another format.
    pub llama_model: Option<String>,
    pub mlx_model: Option<String>,
    pub repeats: usize,
    pub threads: usize,
    pub prompt_tokens: usize,
    pub generate_tokens: usize,
    /// Lengths, as they were given; empty for no sweep.
    pub context_sweep: Vec<usize>,
    pub profile: bool,
    pub output: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
pub enum Stages {
    /// The last one that a solution has reached.
    Highest,
    /// All that a solution has reached.
    All,
    Chosen(Vec<Stage>),
}

const ACCEPTS: Accepts = Accepts {
    command: "bench",
    max_positionals: 0,
    flags: &["profile", "quick"],
    values: &[
        "solution",
        "stages",
        "compare",
        "model",
        "llama-model",
        "mlx-model",
        "repeats",
        "threads",
        "prompt-tokens",
        "generate-tokens",
        "context-sweep",
        "output",
    ],
};

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let arguments = Arguments::parse(&ACCEPTS, arguments)?;
        let is_quick = arguments.has("quick");
        let solutions = match arguments.choice("solution", &["student", "reference", "both"])? {
            Some("student") => Some(vec![Solution::Student]),
            Some("reference") => Some(vec![Solution::Reference]),
            Some(_) => Some(vec![Solution::Student, Solution::Reference]),
            None => None,
        };
        let stages = match arguments.value("stages") {
            None => Stages::Highest,
            Some("all") => Stages::All,
            Some(list) => Stages::Chosen(stages::parse(list)?),
        };
        let text = |name: &str| arguments.value(name).map(str::to_owned);
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let number = |name: &str, default: usize, min: usize| match arguments.value(name) {
            None => Ok(default),
            Some(text) => whole_number(name, text, min),
        };
        let context_sweep = match arguments.value("context-sweep") {
            None => Vec::new(),
            Some(list) => list.split(',').map(|text| whole_number("context-sweep", text, 1)).collect::<Result<_>>()?,
        };
        Ok(Self {
            solutions,
            stages,
            peers: arguments.value("compare").map(peers).transpose()?.unwrap_or_default(),
            model: text("model").unwrap_or_else(|| "smollm2-135m".to_owned()),
            llama_model: text("llama-model"),
            mlx_model: text("mlx-model"),
            repeats: number("repeats", if is_quick { 1 } else { 5 }, 1)?,
            threads: number("threads", cores, 1)?,
            prompt_tokens: number("prompt-tokens", if is_quick { 32 } else { 128 }, 1)?,
            // The first token belongs to prefill, so decoding begins with the second.
            generate_tokens: number("generate-tokens", if is_quick { 16 } else { 128 }, 2)?,
            context_sweep,
            profile: arguments.has("profile"),
            output: arguments.value("output").map(PathBuf::from),
        })
    }
}

fn whole_number(name: &str, text: &str, min: usize) -> Result<usize> {
    match text.parse::<usize>() {
        Ok(number) if number >= min => Ok(number),
        _ => Err(Error::new(format!("`--{name} {text}` does not work"))
            .remedy(format!("give a whole number, at least {min}"))),
    }
}

fn peers(list: &str) -> Result<Vec<&'static Peer>> {
    let mut peers: Vec<&'static Peer> = Vec::new();
    for name in list.split(',') {
        let Some(peer) = PEERS.iter().find(|peer| peer.name == name) else {
            let known: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
            return Err(Error::new(format!("there is no peer `{name}` to compare with"))
                .remedy(format!("choose from {}", known.join(", "))));
        };
        if peers.iter().all(|chosen| chosen.name != name) {
            peers.push(peer);
        }
    }
    Ok(peers)
}

/// The words of a command line as they may be shown to others: of a path, the last part.
pub fn without_places(arguments: &[String]) -> String {
    let short = |word: &String| match word.rsplit_once('/') {
        // A hub id `owner/model` is no place.
        Some((before, last)) if before.contains(['/', '.', '~', '=']) || before.is_empty() => {
            let option = word.split_once('=').map(|(option, _)| format!("{option}="));
            format!("{}{last}", option.unwrap_or_default())
        }
        _ => word.clone(),
    };
    let words: Vec<String> = arguments.iter().map(short).collect();
    format!("cargo xtask bench {}", words.join(" ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|argument| (*argument).to_owned()).collect()
    }

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(&owned(arguments))
    }

    #[test]
    fn without_arguments_one_engine_is_measured_alone() {
        let options = parse(&[]).unwrap();
        assert!(options.peers.is_empty() && options.solutions.is_none());
        assert_eq!(options.stages, Stages::Highest);
        assert_eq!((options.prompt_tokens, options.generate_tokens, options.repeats), (128, 128, 5));
        assert!(options.threads >= 1);
    }

    #[test]
    fn lists_and_numbers_are_read() {
        let options = parse(&[
            "--compare=mlx-lm,llama.cpp,mlx-lm",
            "--stages",
            "flash,dense",
            "--solution",
            "both",
            "--context-sweep",
            "64,128",
            "--quick",
            "--repeats",
            "2",
        ])
        .unwrap();
        let names: Vec<&str> = options.peers.iter().map(|peer| peer.name).collect();
        assert_eq!(names, ["mlx-lm", "llama.cpp"]);
        assert_eq!(options.solutions.unwrap().len(), 2);
        assert_eq!(options.context_sweep, [64, 128]);
        assert_eq!((options.prompt_tokens, options.generate_tokens, options.repeats), (32, 16, 2));
        assert!(matches!(options.stages, Stages::Chosen(stages) if stages.len() == 2));
    }

    #[test]
    fn mistakes_are_one_clear_line() {
        let message = |arguments: &[&str]| parse(arguments).unwrap_err().to_string();
        assert_eq!(
            message(&["--compare", "llama.cpp,vllm"]),
            "there is no peer `vllm` to compare with; choose from llama.cpp, mlx-lm"
        );
        assert!(message(&["--stages", "fast"]).starts_with("there is no stage `fast`; choose from dense,"));
        assert_eq!(message(&["--repeats", "0"]), "`--repeats 0` does not work; give a whole number, at least 1");
        assert!(message(&["--generate-tokens", "1"]).ends_with("at least 2"));
        assert!(message(&["--context-sweep", "64,x"]).contains("`--context-sweep x`"));
        assert!(message(&["--solution", "mine"]).contains("choose one of student, reference, both"));
        assert!(message(&["model"]).contains("does not know what to do with `model`"));
    }

    #[test]
    fn a_command_is_quoted_without_places() {
        let words = owned(&["--model", "/a/b/model.gguf", "--mlx-model=../x/folder", "--repeats", "3"]);
        assert_eq!(without_places(&words), "cargo xtask bench --model model.gguf --mlx-model=folder --repeats 3");
        let hub = owned(&["--model", "Qwen/Qwen2.5-0.5B-Instruct"]);
        assert_eq!(without_places(&hub), "cargo xtask bench --model Qwen/Qwen2.5-0.5B-Instruct");
        assert_eq!(without_places(&[]), "cargo xtask bench");
    }
}
