//! Damaged and lying GGUF files: every field kind, wrong in turn.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::Checkpoint;
use common::data;
use rstest::rstest;

/// Opens changed bytes as a file.
fn open(bytes: &[u8]) -> Result<Checkpoint, String> {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let opened = Checkpoint::open(file.path()).map_err(|error| error.to_string());
    if let Err(error) = &opened {
        assert!(error.contains(file.path().to_str().unwrap()), "{error} names no file");
    }
    opened
}

fn error_of(bytes: &[u8]) -> String {
    open(bytes).err().unwrap()
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).unwrap()
}

/// The position just behind the only occurrence of a key or tensor name (with its length prefix).
fn after(bytes: &[u8], name: &str) -> usize {
    let needle = [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
    let position = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    position + needle.len()
}

/// The fixture with some bytes overwritten, counted from behind a key or tensor name.
fn patched(name: &str, offset: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes_of("tiny-llama.gguf");
    let start = after(&bytes, name) + offset;
    bytes[start..start + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn version_2_reads_as_version_3_does() {
    let mut bytes = bytes_of("tiny-llama.gguf");
    assert_eq!(bytes[4], 3);
    bytes[4] = 2;
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let checkpoint = Checkpoint::open(file.path()).unwrap();
    assert_eq!(checkpoint.config(), Checkpoint::open(&data("tiny-llama.gguf")).unwrap().config());
}

#[rstest]
#[case::magic(0, b"GGML".as_slice(), "not a GGUF file")]
#[case::version_1(4, &1u32.to_le_bytes(), "GGUF version 1")]
#[case::version_0(4, &0u32.to_le_bytes(), "only 2 and 3 are supported")]
#[case::version_4(4, &4u32.to_le_bytes(), "GGUF version 4")]
#[case::big_endian(4, &3u32.to_be_bytes(), "big-endian")]
#[case::tensor_count(8, &u64::MAX.to_le_bytes(), "tensor ")]
#[case::one_tensor_more(8, &22u64.to_le_bytes(), "")]
#[case::metadata_count(16, &u64::MAX.to_le_bytes(), "metadata")]
#[case::one_key_less(16, &1u64.to_le_bytes(), "")]
#[case::key_length(24, &u64::MAX.to_le_bytes(), "18446744073709551615 bytes are announced")]
#[case::key_length_near_the_end(24, &(i64::MAX as u64).to_le_bytes(), "bytes are announced")]
fn a_lying_start_is_refused(#[case] offset: usize, #[case] new: &[u8], #[case] problem: &str) {
    let mut bytes = bytes_of("tiny-llama.gguf");
    bytes[offset..offset + new.len()].copy_from_slice(new);
    let error = error_of(&bytes);
    assert!(error.contains(problem), "{error}");
}

#[rstest]
#[case::value_type("llama.block_count", 0, &13u32.to_le_bytes(), "value type 13 is unknown")]
#[case::size_as_string("general.name", 4, &u64::MAX.to_le_bytes(), "`general.name`")]
#[case::not_utf8("general.name", 12, &[0xff], "not UTF-8")]
#[case::bool_value("tokenizer.ggml.add_bos_token", 4, &[2], "a bool has the value 2")]
#[case::array_length("tokenizer.ggml.tokens", 8, &u64::MAX.to_le_bytes(), "`tokenizer.ggml.tokens`: an array of")]
#[case::array_length_plausible("tokenizer.ggml.tokens", 8, &5000u64.to_le_bytes(), "")]
#[case::array_type("tokenizer.ggml.tokens", 4, &99u32.to_le_bytes(), "value type 99 is unknown")]
#[case::array_of_arrays("tokenizer.ggml.tokens", 4, &9u32.to_le_bytes(), "tokenizer.ggml.tokens")]
#[case::string_in_array("tokenizer.ggml.tokens", 16, &u64::MAX.to_le_bytes(), "`tokenizer.ggml.tokens`")]
#[case::no_layers("llama.block_count", 4, &0u32.to_le_bytes(), "num_hidden_layers is 0")]
#[case::layers("llama.block_count", 4, &u32::MAX.to_le_bytes(), "num_hidden_layers is 4294967295")]
#[case::more_layers("llama.block_count", 4, &3u32.to_le_bytes(), "`model.layers.2.")]
#[case::fewer_layers("llama.block_count", 4, &1u32.to_le_bytes(), "`model.layers.1.")]
#[case::heads("llama.attention.head_count", 4, &0u32.to_le_bytes(), "num_attention_heads is 0")]
#[case::kv_heads("llama.attention.head_count_kv", 4, &3u32.to_le_bytes(), "num_key_value_heads 3")]
#[case::width("llama.embedding_length", 4, &64u32.to_le_bytes(), "rope.dimension_count")]
#[case::ff_width("llama.feed_forward_length", 4, &63u32.to_le_bytes(), "mlp.gate_proj.weight")]
#[case::float_as_size("llama.embedding_length", 0, &6u32.to_le_bytes(), "embedding_length` is not a size")]
#[case::nan_eps("llama.attention.layer_norm_rms_epsilon", 4, &f32::NAN.to_le_bytes(), "rms_norm_eps is NaN")]
#[case::infinite_theta("llama.rope.freq_base", 4, &f32::INFINITY.to_le_bytes(), "rope_theta is inf")]
#[case::partial_rope("llama.rope.dimension_count", 4, &4u32.to_le_bytes(), "rope.dimension_count` = 4")]
#[case::eos("tokenizer.ggml.eos_token_id", 4, &100_000u32.to_le_bytes(), "special token id 100000")]
fn lying_metadata_are_refused(#[case] key: &str, #[case] offset: usize, #[case] new: &[u8], #[case] problem: &str) {
    let error = error_of(&patched(key, offset, new));
    assert!(error.contains(problem), "{error}");
}

#[rstest]
#[case("llama", "llamb", "architecture `llamb`")]
#[case("general.architecture", "general.architectura", "`general.architecture` is missing")]
#[case("llama.context_length", "llama.context_lengte", "context_length` is missing")]
#[case("llama.attention.layer_norm_rms_epsilon", "llama.attention.layer_norm_rms_epsilom", "epsilon` is missing")]
#[case("llama.embedding_length", "llama.rope.freq_base__", "embedding_length` is missing")]
#[case("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "occurs twice")]
#[case("llama.feed_forward_length", "general.alignment________", "feed_forward_length` is missing")]
#[case("blk.1.attn_q.weight", "blk.0.attn_q.weight", "`blk.0.attn_q.weight`: occurs twice")]
#[case("blk.1.attn_q.weight", "blk.2.attn_q.weight", "`model.layers.1.self_attn.q_proj.weight`: is missing")]
#[case("blk.1.attn_q.weight", "blk.1.attn_q.wei\u{e9}ht", "")]
#[case::the_name_outside_of_gguf(
    "blk.1.attn_q.weight",
    "model.norm.weight__",
    "`model.norm.weight__`: has a name that GGUF"
)]
fn renamed_keys_and_tensors_are_noticed(#[case] old: &str, #[case] new: &str, #[case] problem: &str) {
    let mut bytes = bytes_of("tiny-llama.gguf");
    let end = after(&bytes, old);
    let new = &new.as_bytes()[..old.len()];
    bytes[end - old.len()..end].copy_from_slice(new);
    let error = error_of(&bytes);
    assert!(error.contains(problem), "{error}");
}

const TENSOR: &str = "blk.0.attn_q.weight";
const LAST_TENSOR: &str = "blk.1.ffn_down.weight";

/// A tensor's entry: u32 number of dimensions, two u64 sizes, u32 type, u64 offset.
#[rstest]
#[case::no_dimensions(0, &0u32.to_le_bytes(), "0 dimensions")]
#[case::many_dimensions(0, &u32::MAX.to_le_bytes(), "4294967295 dimensions")]
#[case::row_length(4, &31u64.to_le_bytes(), "not a multiple of 32")]
#[case::overflow(4, &(1u64 << 63).to_le_bytes(), "overflows")]
#[case::huge(12, &(1u64 << 40).to_le_bytes(), "outside the file")]
#[case::element_type(20, &99u32.to_le_bytes(), "ggml type 99")]
#[case::old_type(20, &4u32.to_le_bytes(), "ggml type 4,")]
#[case::offset_unaligned(24, &8u64.to_le_bytes(), "not a multiple of the alignment")]
#[case::offset_outside(24, &(1u64 << 40).to_le_bytes(), "outside the file")]
#[case::offset_overflow(24, &(u64::MAX - 31).to_le_bytes(), "outside the file")]
#[case::overlap(24, &0u64.to_le_bytes(), "overlaps")]
#[case::gap(24, &16384u64.to_le_bytes(), "leaves a gap after that of `")]
fn lying_tensor_entries_name_the_tensor(#[case] offset: usize, #[case] new: &[u8], #[case] problem: &str) {
    let error = error_of(&patched(TENSOR, offset, new));
    assert!(error.contains(problem) && error.contains("tensor `"), "{error}");
    assert!(error.contains(TENSOR), "{error}");
}

/// Each is a type whose blocks divide the row: the tensor itself looks right, and its neighbour shows that it is not.
#[rstest]
#[case::half_of_a_norm("blk.0.attn_norm.weight", 12, 30, "leaves a gap after that of `blk.0.attn_norm.weight`")]
#[case::more_than_a_matrix("blk.0.attn_q.weight", 20, 0, "overlaps that of `blk.0.attn_q.weight`")]
#[case::less_than_a_matrix("blk.0.ffn_up.weight", 20, 2, "leaves a gap after that of `blk.0.ffn_up.weight`")]
#[case::the_last_one("LAST", 20, 2, "is the last one, but")]
fn a_wrong_type_is_refused(#[case] tensor: &str, #[case] offset: usize, #[case] number: u32, #[case] problem: &str) {
    let tensor = if tensor == "LAST" { LAST_TENSOR } else { tensor };
    let error = error_of(&patched(tensor, offset, &number.to_le_bytes()));
    assert!(error.contains(problem) && error.contains("wrong type"), "{error}");
}

#[test]
fn bytes_after_the_last_tensor_are_refused() {
    let mut bytes = bytes_of("tiny-llama.gguf");
    bytes.extend([0; 32]);
    assert!(error_of(&bytes).contains("32 bytes follow its data"));
}

/// A folder with the three parts of a model.
fn parts() -> (tempfile::TempDir, [std::path::PathBuf; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let parts = [1, 2, 3].map(|number| {
        let name = format!("tiny-llama-parts-{number:05}-of-00003.gguf");
        let path = folder.path().join(&name);
        std::fs::copy(data(&name), &path).unwrap();
        path
    });
    (folder, parts)
}

#[test]
fn a_missing_part_is_named() {
    for missing in 0..3 {
        let (_folder, parts) = parts();
        std::fs::remove_file(&parts[missing]).unwrap();
        let name = parts[missing].file_name().unwrap().to_str().unwrap();
        for given in (0..3).filter(|&given| given != missing) {
            let error = Checkpoint::open(&parts[given]).unwrap_err().to_string();
            let this = format!("part {} of 3", given + 1);
            assert!(error.contains(&this) && error.contains(&format!("`{name}` is not beside it")), "{error}");
        }
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let error_of = |edit: &dyn Fn(&[std::path::PathBuf; 3])| {
        let (_folder, parts) = parts();
        edit(&parts);
        Checkpoint::open(&parts[0]).unwrap_err().to_string()
    };
    let swapped = error_of(&|parts| assert!(std::fs::copy(&parts[2], &parts[1]).is_ok()));
    assert!(swapped.contains("00002-of-00003.gguf: is not part 2 of 3"), "{swapped}");
    let whole = error_of(&|parts| assert!(std::fs::copy(data("tiny-llama.gguf"), &parts[1]).is_ok()));
    assert!(whole.contains("is not part 2 of 3"), "{whole}");
    let edit_key = |part: &std::path::Path, key: &str, value: &[u8]| {
        let mut bytes = std::fs::read(part).unwrap();
        let start = after(&bytes, key) + 4;
        bytes[start..start + value.len()].copy_from_slice(value);
        std::fs::write(part, bytes).unwrap();
    };
    let count = error_of(&|parts| edit_key(&parts[1], "split.tensors.count", &[7]));
    assert!(count.contains("is not part 2 of 3"), "{count}");
    let number = error_of(&|parts| edit_key(&parts[0], "split.no", &[9]));
    assert!(number.contains("`split.no` is not a number below"), "{number}");
    let renamed = error_of(&|parts| std::fs::rename(&parts[1], parts[1].with_file_name("b.gguf")).unwrap());
    assert!(renamed.contains("is not beside it"), "{renamed}");

    let (folder, parts) = parts();
    let other = folder.path().join("model.gguf");
    std::fs::rename(&parts[0], &other).unwrap();
    let error = Checkpoint::open(&other).unwrap_err().to_string();
    assert!(error.contains("it must end in `-00001-of-00003.gguf`"), "{error}");
}

/// As many numbers in another shape: only the configuration contradicts.
#[test]
fn a_wrong_shape_names_the_tensor() {
    let error = error_of(&patched("blk.0.attn_k.weight", 4, &[16u64, 32].map(u64::to_le_bytes).concat()));
    assert!(error.contains("`model.layers.0.self_attn.k_proj.weight`") && error.contains("has shape"), "{error}");
}

#[rstest]
#[case(&[32u64, 16].map(u64::to_le_bytes).concat())]
#[case(&[32u64, 8].map(u64::to_le_bytes).concat())]
fn fewer_numbers_leave_a_gap(#[case] sizes: &[u8]) {
    let error = error_of(&patched(TENSOR, 4, sizes));
    assert!(error.contains(TENSOR) && error.contains("leaves a gap") && error.contains("shape"), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = bytes_of("tiny-llama.gguf");
    let step = whole.len() / 600;
    for len in (0..200).chain((200..whole.len() - 32).step_by(step)) {
        error_of(&whole[..len]);
    }
}

/// The tokenizer is read on demand, so its errors come then.
#[rstest]
#[case("gpt2", "llma", "")]
#[case("smollm", "llama3", "pre-tokenizer `llama3` is not supported")]
#[case("tokenizer.ggml.merges", "tokenizer.ggml.merget", "`tokenizer.ggml.merges` is missing")]
#[case("tokenizer.ggml.model", "tokenizer.ggml.modem", "`tokenizer.ggml.model` is missing")]
fn tokenizers_that_cannot_be_built_say_why(#[case] old: &str, #[case] new: &str, #[case] problem: &str) {
    let mut bytes = bytes_of("tiny-llama.gguf");
    let end = after(&bytes, old);
    bytes[end - old.len()..end].copy_from_slice(new.as_bytes());
    let error = open(&bytes).unwrap().tokenizer().err().unwrap().to_string();
    assert!(error.contains("tokenizer") && error.contains(problem), "{error}");
}

#[test]
fn an_empty_or_foreign_file_is_refused() {
    for bytes in [b"".as_slice(), b"G", b"GGUF", b"GGUF\x03\0\0\0", b"PK\x03\x04 a zip file", &[0; 100_000]] {
        error_of(bytes);
    }
}
