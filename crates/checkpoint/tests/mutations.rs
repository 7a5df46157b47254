//! Thousands of damaged inputs for the parsers that are ours: each must end in a value or an error, never in a panic
//! or an allocation out of proportion.
//!
//! Seeded, so that a failure can be repeated: the panic message names the seed.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use checkpoint::{Checkpoint, Message};
use common::{copy_of, data};

/// The system's allocator, which remembers the largest request of the current thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// A thousand times a mutant's size: vocabularies and regular expressions need some, a believed lie would need far more.
const MAX_REQUEST: usize = 64 << 20;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// The xorshift64* generator: enough to pick positions.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Numbers that parsers stumble over.
const EXTREMES: [u64; 12] =
    [0, 1, 7, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, i64::MAX as u64, u64::MAX - 7, u64::MAX];

/// One to four changes in the first `end` bytes: flipped bits, extreme numbers, bytes taken out, doubled or cut off.
fn mutate(bytes: &mut Vec<u8>, end: usize, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let end = end.min(bytes.len());
        let at = random.below(end);
        match random.below(8) {
            0..=2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3 | 4 => {
                let width = [1, 2, 4, 8][random.below(4)];
                let number = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
                if let Some(target) = bytes.get_mut(at..at + width) {
                    target.copy_from_slice(&number[..width]);
                }
            }
            5 => {
                let until = (at + 1 + random.below(16)).min(bytes.len());
                bytes.drain(at.min(until)..until);
            }
            6 => {
                let until = (at + 1 + random.below(64)).min(bytes.len());
                let copy = bytes[at.min(until)..until].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.truncate(at.max(end / 2)),
        }
    }
}

/// Everything that a caller may do with an open checkpoint.
fn use_all_of(path: &Path) -> bool {
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    let _ = checkpoint.summary();
    let config = checkpoint.config().clone();
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let _ = checkpoint.tensor(name, &[config.vocab_size, config.hidden_size], None);
        let _ = checkpoint.quantized(name);
    }
    let query_rows = config.num_attention_heads * config.head_dim;
    let _ = checkpoint.tensor("model.layers.0.self_attn.q_proj.weight", &[query_rows, config.hidden_size], None);
    let _ = checkpoint.tensor("model.layers.0.self_attn.q_proj.bias", &[query_rows], None);
    if let Ok(tokenizer) = checkpoint.tokenizer() {
        let ids = tokenizer.encode("Hello, wörld! 123<|im_end|>", true).unwrap_or_default();
        let _ = tokenizer.decode(&ids, true);
    }
    if let Ok(template) = checkpoint.chat_template() {
        let _ = template.render(&[Message::new("user", "hi")], true);
    }
    true
}

/// Runs mutations of one file; both outcomes must occur, or the mutations would be too harsh or too mild to mean anything.
fn run(seeds: std::ops::Range<u64>, original: &[u8], end: usize, target: &Path, model: &Path) {
    let mut opened = 0;
    for seed in seeds.clone() {
        let mut bytes = original.to_vec();
        mutate(&mut bytes, end, &mut Random::new(seed));
        std::fs::write(target, &bytes).unwrap();
        LARGEST.set(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| use_all_of(model)));
        let largest = LARGEST.get();
        assert!(largest < MAX_REQUEST, "seed {seed} allocates {largest} bytes at once");
        match outcome {
            Ok(was_opened) => opened += usize::from(was_opened),
            Err(_) => panic!("seed {seed} panics"),
        }
    }
    let total = (seeds.end - seeds.start) as usize;
    println!("{opened} of {total} mutants of {} still open", target.display());
    assert!(opened > 0 && opened < total, "{opened} of {total} opened");
}

/// Where a GGUF file's header ends: a change behind it only changes numbers.
fn header_len(bytes: &[u8]) -> usize {
    let last = b"blk.1.post_attention_norm";
    let names = ["blk.1.ffn_norm.weight", "blk.1.attn_v.bias"].map(str::as_bytes);
    let position = names.iter().filter_map(|name| bytes.windows(name.len()).rposition(|window| window == *name)).max();
    position.map_or(bytes.len() - last.len(), |position| position + 60)
}

fn run_gguf(name: &str, seeds: std::ops::Range<u64>) {
    let original = std::fs::read(data(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("mutant.gguf");
    run(seeds, &original, header_len(&original), &target, &target);
}

#[test]
fn mutated_gguf_llama() {
    run_gguf("tiny-llama.gguf", 0..1500);
}

#[test]
fn mutated_gguf_qwen2() {
    run_gguf("tiny-qwen2.gguf", 10_000..11_500);
}

/// The first bytes hold counts and the architecture's numbers: more of the mutations shall land there.
#[test]
fn mutated_gguf_first_bytes() {
    let original = std::fs::read(data("tiny-llama.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("mutant.gguf");
    run(20_000..22_500, &original, 900, &target, &target);
}

fn run_folder(name: &str, file: &str, seeds: std::ops::Range<u64>) {
    let folder = copy_of(name);
    let target = folder.path().join(file);
    let original = std::fs::read(&target).unwrap();
    run(seeds, &original, original.len().min(4000), &target, folder.path());
}

#[test]
fn mutated_config() {
    run_folder("sharded", "config.json", 30_000..32_000);
}

#[test]
fn mutated_quantization_config() {
    run_folder("mlx-quantized", "config.json", 40_000..41_000);
}

#[test]
fn mutated_index() {
    run_folder("sharded", "model.safetensors.index.json", 50_000..51_000);
}

#[test]
fn mutated_generation_config() {
    run_folder("sharded", "generation_config.json", 60_000..60_500);
}

#[test]
fn mutated_safetensors_header() {
    run_folder("sharded", "model-00001-of-00002.safetensors", 70_000..71_500);
    run_folder("mlx-quantized", "model.safetensors", 80_000..81_000);
}
