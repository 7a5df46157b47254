//! The kernels of day 2.2b on this processor: which it can run, whether their numbers are right, and how fast they are.
//!
//! `cargo run --release --package tiny-llm-reference --example kernel_table`
//!
//! The program is made of the kernels' files alone and links no MLX, so that it can be carried to a processor that this
//! repository never saw: copy `target/release/examples/kernel_table` and start it. `kernel_table check` does no timing.
//! A list of numbers, as in `kernel_table 1 8`, is taken for the threads.

mod comparison;
mod quantized;
mod timing;

use std::process::ExitCode;
use std::thread::available_parallelism;

use comparison::{Matrix, Random, Stored, compare, rounded};
use quantized::activations;
use quantized::kernel::{KERNEL_NAMES, available_kernels};

/// `[O, I]` of 4-bit weights in groups of 32: projections of SmolLM2-135M and Qwen2.5-0.5B, and an output head.
const SIZES: [[usize; 2]; 4] = [[576, 576], [1536, 576], [4864, 896], [49152, 576]];
/// A prompt's tokens.
const PROMPT: usize = 128;
/// Copies of a matrix take so many bytes together that no cache holds them.
const BEYOND_CACHES: usize = 1 << 29;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let only_check = arguments == ["check"];
    let threads: Result<Vec<usize>, _> = arguments.iter().map(|argument| argument.parse()).collect();
    let threads = match threads {
        _ if only_check => Vec::new(),
        Ok(threads) if threads.contains(&0) => return usage(),
        Ok(threads) if !threads.is_empty() => threads,
        Ok(_) => vec![1, available_parallelism().map_or(1, usize::from)],
        Err(_) => return usage(),
    };
    print_processor();
    for kernel in available_kernels() {
        match compare(*kernel) {
            Ok(n_tiles) => println!("{}: {n_tiles} tiles compared with exact sums, all right", kernel.name()),
            Err(problem) => {
                println!("WRONG: {problem}");
                return ExitCode::FAILURE;
            }
        }
    }
    if !only_check {
        print_few_tokens(&threads);
        print_many_tokens(&threads);
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("takes nothing, `check`, or numbers of threads such as `1 8`");
    ExitCode::FAILURE
}

fn print_processor() {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    println!("processor: {}", model.map_or("(not in /proc/cpuinfo)", |(_, name)| name));
    println!("threads: {}", available_parallelism().map_or(1, usize::from));
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! features {
            ($($name:tt)*) => { [$(($name, is_x86_feature_detected!($name))),*] };
        }
        let features = features!("avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512vnni" "avx512bf16");
        for (name, is_there) in features {
            println!("{name}: {}", if is_there { "yes" } else { "no" });
        }
    }
    for name in KERNEL_NAMES {
        if available_kernels().iter().all(|kernel| kernel.name() != name) {
            println!("{name}: NOT RUN, this processor cannot");
        }
    }
}

/// One token: bytes of weights for each second.
fn print_few_tokens(threads: &[usize]) {
    println!("\nOne token: GB/s of weights, read from memory and from a cache\n");
    print_head("from");
    for [outputs, inputs] in SIZES {
        let mut random = Random(1);
        let matrix = Matrix::random(&mut random, [outputs, inputs], 32, 4, Stored::F16);
        let x = rounded(&matrix, &matrix.activations(&mut random, 1), activations::quantize_row);
        let bytes = matrix.bytes();
        let in_memory = vec![matrix.clone(); BEYOND_CACHES.div_ceil(bytes)];
        for &n_threads in threads {
            for (place, matrices) in [("memory", &in_memory[..]), ("cache", &in_memory[..1])] {
                print!("| {outputs}x{inputs} | {n_threads} | {place} |");
                for kernel in available_kernels() {
                    print!(" {:.1} |", bytes as f64 / timing::seconds(*kernel, matrices, &x, n_threads) / 1e9);
                }
                println!();
            }
        }
    }
}

/// A prompt: multiplications and additions for each second.
fn print_many_tokens(threads: &[usize]) {
    println!("\n{PROMPT} tokens: GFLOP/s, a multiplication with addition as two\n");
    print_head("tokens");
    for [outputs, inputs] in SIZES {
        let mut random = Random(2);
        let matrix = Matrix::random(&mut random, [outputs, inputs], 32, 4, Stored::F16);
        let x = rounded(&matrix, &matrix.activations(&mut random, PROMPT), activations::quantize_row);
        let operations = (2 * PROMPT * outputs * inputs) as f64;
        for &n_threads in threads {
            print!("| {outputs}x{inputs} | {n_threads} | {PROMPT} |");
            for kernel in available_kernels() {
                let seconds = timing::seconds(*kernel, std::slice::from_ref(&matrix), &x, n_threads);
                print!(" {:.1} |", operations / seconds / 1e9);
            }
            println!();
        }
    }
}

fn print_head(third: &str) {
    let names: Vec<_> = available_kernels().iter().map(|kernel| kernel.name()).collect();
    println!("| matrix | threads | {third} | {} |", names.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(names.len()));
}
