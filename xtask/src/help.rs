//! What every command is for: the text of `--help`.

#[derive(Debug, Clone, Copy)]
pub struct CommandHelp {
    pub name: &'static str,
    /// For the list of commands.
    pub summary: &'static str,
    /// For `cargo xtask <name> --help`.
    pub text: &'static str,
}

pub const COMMANDS: &[CommandHelp] = &[
    CommandHelp {
        name: "check",
        summary: "grade your code: cargo xtask check 1.1",
        text: "\
Grades your code against the fixtures.

  cargo xtask check            the first day that you have not finished
  cargo xtask check 1.1        a day
  cargo xtask check 1.1.2      one task
  cargo xtask check 1          a week
  cargo xtask check all        everything

Options
  --solution WHO      student (the default), reference, or both side by side
  --time-limit N      seconds that one test may take (default 30)
  --json              one JSON object instead of the table

The headroom is the part of the tolerance that your result left: 90 % is as good as exact, 2 %
is a narrow pass. Exit code 0: all pass. 1: some task does not. 2: the check could not run.",
    },
    CommandHelp {
        name: "watch",
        summary: "check again whenever you save",
        text: "\
Checks a day again whenever a file of your crate changes. Without a chapter: the first day that
you have not finished. It never moves on by itself.

  cargo xtask watch [1.1|1.1.2]

Keys: r run again, h next hint for the first task that does not pass, n go to the next day,
q quit. They work when standard input is a terminal.",
    },
    CommandHelp {
        name: "hint",
        summary: "a hint for a task, one level more each time",
        text: "\
Shows a hint for a task: a nudge first, then the idea, then nearly the code in words.

  cargo xtask hint 1.1.2            one level more than last time
  cargo xtask hint 1.1.2 --all      all levels
  cargo xtask hint 1.1 --reset      start again at the first level (a task, a day, a week, all)",
    },
    CommandHelp {
        name: "progress",
        summary: "which tasks passed when last checked",
        text: "\
Shows every day and task, and which of them passed when they were last checked.

  cargo xtask progress
  cargo xtask progress --verify     check everything first

It is kept in .tiny-llm/progress, a text file. Checking again corrects it, in both directions.",
    },
    CommandHelp {
        name: "diff",
        summary: "your code beside the model answer",
        text: "\
Shows how your code differs from the reference's, between the task's markers.

  cargo xtask diff 1.1.2     a task; also a day, a week, or all

Options
  --stat    how many lines differ in each piece, and not which
  --yes     do not ask

This is the solution: look when you have passed, or when you give up. On a terminal it asks before it shows a
task that did not pass when last checked. Code for another processor than this one is left out.",
    },
    CommandHelp {
        name: "solve",
        summary: "fill in the model answer (keeps a backup)",
        text: "\
Replaces your code between the task's markers by the reference's. Use it for the days that you
skip, or when you give up. Code outside the markers is never touched.

  cargo xtask solve 1.1.2     a task; also a day, a week, or all

Your earlier version goes to .tiny-llm/backup/. Progress counts what was checked: `cargo xtask check 1.1.2`
ticks the task off.",
    },
    CommandHelp {
        name: "reset",
        summary: "start a task over (keeps a backup)",
        text: "\
Puts the `todo!` back between the task's markers. Code outside the markers is never touched.

  cargo xtask reset 1.1.2     a task; also a day, a week, or all

Your earlier version goes to .tiny-llm/backup/.",
    },
    CommandHelp {
        name: "doctor",
        summary: "is this machine set up?",
        text: "\
Looks at what the course needs on this machine, and says how to get what is missing: the Rust
toolchain, a C++ compiler, Python with pip, MLX, the model, the fixtures, the kernel for this
processor, your crate, and where you are in the course.

Exit code 0: sound. 2: something is missing.",
    },
    CommandHelp {
        name: "setup",
        summary: "prepare MLX (other commands do it when needed)",
        text: "\
Prepares MLX, the array library. On Linux it installs prebuilt wheels through pip and compiles a
small C interface, once; it takes about two minutes and can be interrupted. On macOS cargo builds
MLX from source and there is nothing to do here.

  cargo xtask setup
  cargo xtask setup --backend cuda      for an NVIDIA GPU (cuda12 or cuda13 for a given driver)
  cargo xtask setup --backend cpu       back to the CPU",
    },
    CommandHelp {
        name: "chat",
        summary: "talk to a model through the engine",
        text: "\
Talks to a model through the engine, in a release build.

  cargo xtask chat \"What is the capital of France?\"
  cargo xtask chat                              a conversation

Options
  --solution WHO     student or reference. By default your crate once days 1.1 to 1.6 have passed,
                     until then the reference. Before day 1.7 it takes the most likely token.
Everything else goes to the engine; `cargo xtask chat -- --help` lists its options.",
    },
    CommandHelp {
        name: "generate",
        summary: "complete a text",
        text: "\
Lets a model go on with a text, without a chat template.

  cargo xtask generate \"Once upon a time\"

  --solution WHO     student or reference (see `cargo xtask chat --help`)
Everything else goes to the engine; `cargo xtask generate -- --help` lists its options.",
    },
    CommandHelp {
        name: "logits",
        summary: "write a model's logits, to compare with other engines",
        text: "\
Writes the logits of every position as safetensors, to compare with any other engine.

  --solution WHO     student or reference (see `cargo xtask chat --help`)
Everything else goes to the engine; `cargo xtask logits -- --help` lists its options.",
    },
    CommandHelp {
        name: "perplexity",
        summary: "how well a model predicts a text file",
        text: "\
Computes a model's perplexity on a text file.

  --solution WHO     student or reference (see `cargo xtask chat --help`)
Everything else goes to the engine; `cargo xtask perplexity -- --help` lists its options.",
    },
    CommandHelp {
        name: "bench",
        summary: "measure the engine, and compare it with others",
        text: "\
Measures prefill and decode speed, time to the first token and memory of the engine in a release
build, and what part of this machine's memory bandwidth and arithmetic that is.

  cargo xtask bench
  cargo xtask bench --stages all                    what each day bought
  cargo xtask bench --compare llama.cpp,mlx-lm      other engines, with the same model
  cargo xtask bench --solution both                 your crate beside the reference

Options
  --solution WHO          student, reference or both (see `cargo xtask chat --help`)
  --stages LIST           dense, cached, packed, quantized, fused, flash; or all. By default the last one
                          that the solution has reached
  --compare LIST          llama.cpp, mlx-lm. On first use they are installed with pip, each into a
                          virtual environment in the cache folder; llama.cpp is compiled for this
                          processor, which takes some minutes
  --model NAME            as for chat. llama.cpp needs a GGUF file and mlx-lm a folder; where the
                          model is the other, name its twin:
  --llama-model FILE      the same model as GGUF
  --mlx-model FOLDER      the same model for mlx-lm (a GGUF file is converted if this is missing)
  --repeats N             rounds; each engine runs once in every round (default 5)
  --threads N             for all engines alike (default: one for each processor)
  --prompt-tokens N       (default 128)
  --generate-tokens N     (default 128; the stage `dense` gets 16 at most)
  --context-sweep LIST    also decode behind contexts of these lengths, such as 128,1024,4096
                          (up to 1024 for the stage `dense`, up to 256 for mlx-lm)
  --profile               also the time of each kind of operation, at the last stage
  --quick                 one round, 32 tokens in, 16 out: does it run at all?
  --output FOLDER         for measurements.json, table.md and the plots
                          (default: a new folder in .tiny-llm/bench)

`tiny-llm report` makes tables and plots from a measurements.json again.",
    },
    CommandHelp {
        name: "bundle",
        summary: "an archive for a GPU machine without network or cargo",
        text: "\
Makes an archive that runs on another Linux machine of the same processor architecture, without network,
Rust or cargo: the engine with the reference, the tests and benchmarks of GPU kernels, their fixtures, and
MLX for the backend asked for, with its headers for kernels. This machine needs no GPU, and keeps the
backend that it uses.

  cargo xtask bundle --backend cuda --split 60M
  cargo xtask bundle --backend cpu --model smollm2-135m

Options
  --backend NAME      cuda (or cuda12, cuda13), or cpu to try it
  --split SIZE        files of at most this size, such as 60M or 2G (default: one file)
  --model NAME        a model to take along, as for chat; may be repeated
  --output FOLDER     for the archive and join.sh (default: target/bundle)

There: `sh join.sh` checks the files and unpacks them. Then, in the folder tiny-llm-bundle:
  ./run check             what the machine has and lacks
  ./run tests             all tests of kernels, a line for each program
  ./run sanitize          tests/gpu under compute-sanitizer, a process for each test
  ./run benches           the benchmarks of kernels
  ./run tiny-llm ...      the engine

NVIDIA's own libraries are not in it. For CUDA 13 the other machine must have
  the driver              libcuda.so.1
  the CUDA toolkit        cuBLAS (libcublasLt.so.13), cuFFT (libcufft.so.12), NVRTC (libnvrtc.so.13), headers
  cuDNN 9 and NCCL 2      libcudnn.so.9, libnccl.so.2
All but the driver may also come from the Python wheels that the wheel of MLX names. The archive's
manifest.txt lists the libraries that its files ask for.

It uses tar, xz, strip and sha256sum.",
    },
    CommandHelp {
        name: "serve",
        summary: "serve the model over HTTP (comes in week 4)",
        text: "\
The HTTP server arrives with week 4.",
    },
    CommandHelp {
        name: "book",
        summary: "build, serve or test the book",
        text: "\
  cargo xtask book           build it into book/book
  cargo xtask book serve     build it, show it on a local port, rebuild on save
  cargo xtask book test      build it, and check links, anchors, fences and included code

mdBook is built on first use, into the target folder.",
    },
    CommandHelp {
        name: "test",
        summary: "everything that must be green (for contributors, CI)",
        text: "\
Runs everything that must be green before a change goes in; CI calls it. Learners want `check`.

  cargo xtask test
  cargo xtask test --list                  the steps
  cargo xtask test --only fmt,clippy       some of them
  cargo xtask test --skip mutants          all but some
  cargo xtask test --fail-fast             stop at the first step that fails

The last line is `N passed, N failed`, summed over all test binaries and steps.",
    },
    CommandHelp {
        name: "author",
        summary: "tools for those who write the course",
        text: "\
  cargo xtask author stubs                 write crates/tiny-llm from reference/
      --check      only compare, and fail on a difference
      --force      although crates/tiny-llm has changes that are not committed
  cargo xtask author fixtures [1.1]        write tests/fixtures again with PyTorch
      --check      into a temporary folder, and compare with the committed files
  cargo xtask author check                 is the course itself right?
      --chapter 1.1    one chapter or one week
      --only PART      list, rules, stubs, reference, solve, wrong or mutants
      --mutant NAME    only mutants whose id contains NAME; many share one build, which must
                       pass the tests while none of them is active
      --json           the outcome of every part as JSON
  cargo xtask author bindings              write the bindings of mlx-c again (fetches libclang)",
    },
];

pub fn find(name: &str) -> Option<&'static CommandHelp> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// The text of `cargo xtask --help`.
pub fn overview() -> String {
    const GROUPS: [(&str, &[&str]); 4] = [
        ("Learn", &["check", "watch", "hint", "progress", "diff", "solve", "reset"]),
        ("Run the engine", &["chat", "generate", "logits", "perplexity", "bench", "bundle", "serve"]),
        ("This machine", &["doctor", "setup", "book"]),
        ("Write the course", &["test", "author"]),
    ];
    let mut text = String::from("The runner of the course.\n\nUsage: cargo xtask <command> [arguments]\n");
    for (title, names) in GROUPS {
        text.push_str(&format!("\n{title}\n"));
        for command in names.iter().filter_map(|name| find(name)) {
            text.push_str(&format!("  {:<11} {}\n", command.name, command.summary));
        }
    }
    text.push_str(
        "\nStart with `cargo xtask check 1.1`: everything is red, because nothing is written yet.\n\
         `cargo xtask <command> --help` says more about a command.\n\
         Exit codes: 0 all is well, 1 something does not pass, 2 wrong usage or a missing tool.",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_the_overview_once() {
        let overview = overview();
        for command in COMMANDS {
            let row = format!("  {:<11} {}\n", command.name, command.summary);
            assert_eq!(overview.matches(&row).count(), 1, "{}", command.name);
            assert!(!command.text.is_empty());
        }
    }
}
