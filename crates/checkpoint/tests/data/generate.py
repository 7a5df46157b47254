#!/usr/bin/env python3
"""Writes the files beside it: small checkpoints and what other programs read from them.

    generate.py SMOLLM2.gguf      (the file that the built-in model `smollm2-135m` is stored in)

The oracles are independent of this repository: `mlx` for bf16 and MLX quantization,
`gguf` for GGUF files and their dequantization, `tokenizers` for encodings, `transformers` for chat templates.
The output is reproducible: all numbers come from seeded generators.

    pip install numpy==2.4.6 safetensors==0.8.0 'mlx[cpu]' gguf==0.19.0 tokenizers==0.23.3 transformers==5.23.0 jinja2==3.1.6
"""

import json
import shutil
import sys
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from chat_cases import chat_cases
from strftime_cases import strftime_cases
from texts import TEXTS

HERE = Path(__file__).parent
GgmlType = gguf.GGMLQuantizationType


def rng(name):
    return np.random.default_rng(list(name.encode()))


def normal(name, *shape):
    return rng(name).standard_normal(shape, dtype=np.float32)


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def weight_shapes(c):
    """Hugging Face names and shapes, written down from the definition of transformers' Qwen2ForCausalLM."""
    hidden, inter = c["hidden_size"], c["intermediate_size"]
    q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    shapes = {"model.embed_tokens.weight": (c["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (c["vocab_size"], hidden)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        shapes |= {
            p + "input_layernorm.weight": (hidden,),
            p + "post_attention_layernorm.weight": (hidden,),
            p + "self_attn.q_proj.weight": (q, hidden),
            p + "self_attn.k_proj.weight": (kv, hidden),
            p + "self_attn.v_proj.weight": (kv, hidden),
            p + "self_attn.o_proj.weight": (hidden, q),
            p + "mlp.gate_proj.weight": (inter, hidden),
            p + "mlp.up_proj.weight": (inter, hidden),
            p + "mlp.down_proj.weight": (hidden, inter),
        }
        if c["model_type"] == "qwen2":
            shapes |= {p + f"self_attn.{m}_proj.bias": (n,) for m, n in (("q", q), ("k", kv), ("v", kv))}
    return shapes


def config(**changes):
    c = dict(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", vocab_size=40, hidden_size=16, intermediate_size=24,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=12, hidden_act="silu",
        max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=10000.0, rope_scaling=None, attention_dropout=0.0,
        initializer_range=0.02, tie_word_embeddings=False, use_cache=True, bos_token_id=1, eos_token_id=2,
        torch_dtype="bfloat16", use_sliding_window=False, sliding_window=4096, max_window_layers=2,
    )
    return c | changes


# ---------------------------------------------------------------------------------------------------------------------
# Safetensors, sharded, every float type.


def sharded():
    folder = fresh("sharded")
    c = config()
    write_json(folder / "config.json", c)
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": [3, 2], "temperature": 0.7})
    shards, expected, weight_map = [{}, {}], {}, {}
    for i, (name, shape) in enumerate(weight_shapes(c).items()):
        value = mx.array(normal("sharded/" + name, *shape))
        # Mostly bf16; the norms f32 and one matrix f16, as a checkpoint may mix them.
        kind = mx.float32 if "norm" in name else mx.float16 if name.endswith("0.mlp.up_proj.weight") else mx.bfloat16
        shards[i % 2][name] = value.astype(kind)
        expected[name] = np.array(value.astype(kind).astype(mx.float32))
        weight_map[name] = f"model-0000{i % 2 + 1}-of-00002.safetensors"
    for i, shard in enumerate(shards):
        mx.save_safetensors(str(folder / f"model-0000{i + 1}-of-00002.safetensors"), shard, {"format": "pt"})
    total = sum(v.nbytes for shard in shards for v in shard.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    save_file(expected, folder / "expected.safetensors")


# ---------------------------------------------------------------------------------------------------------------------
# MLX quantization: every combination of bits and group size in one model, by per-layer overrides.


def mlx_quantized():
    folder = fresh("mlx-quantized")
    layer = "model.layers.0."
    overrides = {
        "model.embed_tokens": (4, 64, mx.bfloat16),
        layer + "self_attn.q_proj": (8, 32, mx.float32),
        layer + "self_attn.k_proj": (4, 128, mx.float16),
        layer + "self_attn.v_proj": (8, 64, mx.bfloat16),
        layer + "self_attn.o_proj": None,
        layer + "mlp.gate_proj": (4, 64, mx.float32),
        layer + "mlp.up_proj": (8, 128, mx.bfloat16),
        layer + "mlp.down_proj": (4, 32, mx.float16),
    }
    default = (4, 64)
    c = config(
        hidden_size=128, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, head_dim=16, tie_word_embeddings=True
    )
    quantization = {"group_size": default[1], "bits": default[0], "mode": "affine"}
    for name, params in overrides.items():
        if params is None:
            quantization[name] = False
        elif params[:2] != default:
            quantization[name] = {"group_size": params[1], "bits": params[0]}
    write_json(folder / "config.json", c | {"quantization": quantization, "quantization_config": quantization})
    tensors, expected = {}, {}
    for name, shape in weight_shapes(c).items():
        value = mx.array(normal("mlx/" + name, *shape))
        params = overrides.get(name.removesuffix(".weight"))
        if params is None:
            tensors[name] = value.astype(mx.bfloat16)
            expected[name] = np.array(tensors[name].astype(mx.float32))
            continue
        bits, group_size, kind = params
        packed, scales, biases = mx.quantize(value.astype(kind), group_size=group_size, bits=bits)
        base = name.removesuffix(".weight")
        tensors |= {name: packed, base + ".scales": scales, base + ".biases": biases}
        f32 = [x.astype(mx.float32) for x in (scales, biases)]
        expected[name] = np.array(mx.dequantize(packed, *f32, group_size=group_size, bits=bits))
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "mlx"})
    save_file(expected, folder / "expected.safetensors")


# ---------------------------------------------------------------------------------------------------------------------
# GGUF.


def gguf_blocks():
    """Random bytes as blocks of every type. Scales are drawn as finite f16, the rest is any bits."""
    # type -> byte offsets of its f16 fields
    f16_fields = {
        GgmlType.F32: [], GgmlType.F16: [0], GgmlType.BF16: [], GgmlType.Q4_0: [0], GgmlType.Q4_1: [0, 2], GgmlType.Q5_0: [0],
        GgmlType.Q8_0: [0], GgmlType.Q4_K: [0, 2], GgmlType.Q6_K: [208],
    }
    tensors = {}
    for kind, fields in f16_fields.items():
        block_len, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = 6 if block_len > 1 else 64
        random = rng("blocks/" + kind.name)
        data = random.integers(0, 256, (blocks, block_bytes), dtype=np.uint8)
        for offset in fields:
            data[:, offset : offset + 2] = random.standard_normal((blocks, 1)).astype(np.float16).view(np.uint8)
        if kind == GgmlType.F32:
            data = random.standard_normal((blocks, 1), dtype=np.float32).view(np.uint8)
        if kind == GgmlType.BF16:
            data[:, 1] &= 0xBF  # no infinities and NaNs
        values = dequantize(data.view(np.float32) if kind == GgmlType.F32 else data, kind)
        tensors[f"{kind.name}/bytes"] = data.reshape(-1)
        tensors[f"{kind.name}/values"] = np.ascontiguousarray(values.astype(np.float32).reshape(-1))
    save_file(tensors, HERE / "gguf_blocks.safetensors")


GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def gguf_name(name):
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    _, _, layer, module = name.split(".", 3)
    module, kind = module.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[module]}.{kind}"


def interleave_rows(w, heads):
    """What llama.cpp's converter does to q and k of a llama: half-split pairs become neighbours."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def split_rows(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


TOY_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"


def tiny_gguf(name, arch, pre, tokenizer, kinds, add_bos, tied, tensors_per_part=0):
    """A model of two layers whose vocabulary is that of a tiny tokenizer, and the values that its file holds.

    With `tensors_per_part`, the same model once more in several files, as gguf-split cuts it.
    """
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    padding = 3  # rows of the embedding without a token, as converters fill them up
    c = config(
        model_type=arch, vocab_size=len(tokens) + padding, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=tied, rope_theta=50000.0,
    )
    stem = f"{name}-parts" if tensors_per_part else name
    w = gguf.GGUFWriter(HERE / f"{stem}.gguf", arch, split_max_tensors=tensors_per_part)
    w.add_name(name)
    w.add_context_length(64)
    w.add_embedding_length(32)
    w.add_block_count(2)
    w.add_feed_forward_length(64)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(50000.0)
    w.add_rope_dimension_count(8)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens + [f"[PAD{i}]" for i in range(padding)])
    special = tokenizer.get_added_tokens_decoder()
    types = [
        (gguf.TokenType.CONTROL if special[i].special else gguf.TokenType.USER_DEFINED) if i in special else gguf.TokenType.NORMAL
        for i in range(len(tokens))
    ]
    w.add_token_types(types + [gguf.TokenType.UNUSED] * padding)
    w.add_token_merges([" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]])
    w.add_bos_token_id(tokenizer.token_to_id("<|endoftext|>"))
    w.add_eos_token_id(tokenizer.token_to_id("<|im_end|>"))
    w.add_pad_token_id(tokenizer.token_to_id("<|endoftext|>"))
    w.add_add_bos_token(add_bos)
    w.add_chat_template(TOY_TEMPLATE)
    expected = {}
    for i, (hf_name, shape) in enumerate(weight_shapes(c).items()):
        value = normal(f"{name}/{hf_name}", *shape)
        heads = 4 if ".q_proj.weight" in hf_name else 2 if ".k_proj.weight" in hf_name else None
        if arch == "llama" and heads:
            value = interleave_rows(value, heads)
        kind = GgmlType.F32 if len(shape) == 1 else kinds[i % len(kinds)]
        data = quantize(value, kind)
        w.add_tensor(gguf_name(hf_name), data, raw_dtype=kind)
        stored = dequantize(data, kind).astype(np.float32).reshape(shape)
        expected[hf_name] = np.ascontiguousarray(split_rows(stored, heads) if arch == "llama" and heads else stored)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    if not tensors_per_part:
        save_file(expected, HERE / f"{name}.expected.safetensors")


def smollm2_checksums(reader):
    """For every tensor of the real model, a number that depends on each bit of its f32 values and on their order."""
    checksums = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(tensor.shape[::-1])
        heads = 9 if "attn_q" in tensor.name else 3 if "attn_k" in tensor.name else None
        values = np.ascontiguousarray(split_rows(values, heads) if heads else values)
        bits = values.reshape(-1).view(np.uint32).astype(np.uint64)
        odd = 2 * np.arange(bits.size, dtype=np.uint64) + 1
        checksums[hf_name(tensor.name)] = {"shape": list(values.shape), "checksum": str(int((bits * odd).sum(dtype=np.uint64)))}
    return checksums


def hf_name(name):
    hf = {gguf_name: name for name, gguf_name in GGUF_NAMES.items()}
    if name in hf:
        return hf[name]
    _, layer, module, kind = name.split(".")
    return f"model.layers.{layer}.{hf[module]}.{kind}"


# ---------------------------------------------------------------------------------------------------------------------
# Tokenizers.

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pre_tokenizer(pre):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre != "qwen2")
    if pre == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if pre == "qwen2":
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"), byte_level])
    return byte_level


def tiny_tokenizer(pre):
    """Byte-level BPE trained on the test's own texts, with the pieces of one of the supported pre-tokenizers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("a b", normalized=False)])
    return tokenizer


def smollm2_tokenizer(reader):
    """The real tokenizer as Hugging Face publishes it, rebuilt from the vocabulary in the GGUF file."""
    field = lambda name: reader.fields["tokenizer.ggml." + name].contents()
    tokens, types = field("tokens"), field("token_type")
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizer("smollm")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, y in zip(tokens, types) if y == 3])
    return tokenizer


def encodings(tokenizer):
    return [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in TEXTS]


def tokenizers_and_gguf(smollm2):
    quantized = [GgmlType.Q4_0, GgmlType.F16, GgmlType.Q8_0, GgmlType.BF16, GgmlType.Q4_1, GgmlType.F32, GgmlType.Q5_0]
    result = {"smollm2-135m": encodings(smollm2_tokenizer(smollm2))}
    for name, arch, pre, kinds, add_bos, tied in [
        ("tiny-llama", "llama", "smollm", quantized, False, True),
        ("tiny-qwen2", "qwen2", "qwen2", [GgmlType.F16], False, False),
        ("tiny-gpt2-split", "qwen2", "gpt-2", [GgmlType.Q8_0], True, True),
    ]:
        tokenizer = tiny_tokenizer(pre)
        tiny_gguf(name, arch, pre, tokenizer, kinds, add_bos, tied)
        if name == "tiny-llama":
            tiny_gguf(name, arch, pre, tokenizer, kinds, add_bos, tied, tensors_per_part=8)
        result[name] = encodings(tokenizer)
    write_json(HERE / "encodings.json", result)


def sentencepiece_tokenizer():
    """A tokenizer.json in the manner of Llama 2: not byte-level, with byte fallback and a decoder that looks at neighbours."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": byte + 3 for byte in range(256)}
    for piece in ["▁", "▁Hello", "Hello", "▁world", "H", "e", "l", "o", "w", "r", "d", "é", "▁▁"]:
        vocab[piece] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    ids = [vocab[piece] for piece in ["▁Hello", "▁world", "▁"]] + [byte + 3 for byte in "🦀é".encode()] + [vocab["▁world"], 2]
    write_json(
        HERE / "sentencepiece.json",
        {"tokenizer": json.loads(tokenizer.to_str()), "ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True)},
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reader = gguf.GGUFReader(sys.argv[1])
    sharded()
    mlx_quantized()
    gguf_blocks()
    tokenizers_and_gguf(reader)
    sentencepiece_tokenizer()
    write_json(HERE / "smollm2_checksums.json", smollm2_checksums(reader))
    smollm2_template = reader.fields["tokenizer.chat_template"].contents()
    write_json(HERE / "chat_templates.json", chat_cases(smollm2_template))
    write_json(HERE / "strftime.json", strftime_cases())
