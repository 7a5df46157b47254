"""Measures mlx-lm on the CPU. See measure.py."""

import importlib.metadata
import os

import measure

options = measure.arguments("Measures mlx-lm.")
# MLX has no option for the number of threads, so the process gets that many processors. Before MLX is imported:
# its thread pool looks once.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])

import mlx.core as mx  # noqa: E402
from mlx.utils import tree_flatten, tree_map  # noqa: E402
from mlx_lm import load  # noqa: E402
from mlx_lm.models.cache import make_prompt_cache  # noqa: E402

PREFILL_STEP = 2048  # mlx-lm's default


def n_bytes(module):
    return sum(parameter.nbytes for _, parameter in tree_flatten(module.parameters()))


class MlxLm:
    def __init__(self, path):
        mx.set_default_device(mx.cpu)
        self.model, tokenizer = load(path)
        # On a CPU its kernels are about ten times faster with f32 scales and activations than with 16-bit ones.
        half = (mx.float16, mx.bfloat16)
        parameters = tree_map(lambda p: p.astype(mx.float32) if p.dtype in half else p, self.model.parameters())
        self.model.update(parameters)
        mx.eval(self.model.parameters())
        self.vocab_size = len(tokenizer)

    def reset(self):
        self.cache = make_prompt_cache(self.model)

    def forward(self, token_ids):
        # As mlx-lm's own generation does: the output head runs for the last token of the prompt only.
        for start in range(0, len(token_ids) - 1, PREFILL_STEP):
            chunk = token_ids[start : min(start + PREFILL_STEP, len(token_ids) - 1)]
            self.model(mx.array([chunk]), cache=self.cache)
            mx.eval([layer.state for layer in self.cache])
        token_ids = token_ids[-1:]
        logits = self.model(mx.array([token_ids]), cache=self.cache)
        return mx.argmax(logits[0, -1]).item()

    def facts(self):
        return {
            "engine": "mlx-lm",
            "version": f"mlx-lm {importlib.metadata.version('mlx-lm')}, mlx {importlib.metadata.version('mlx')}",
            "weight_bytes": n_bytes(self.model),
            # The embedding is a look-up, unless it is the output head as well.
            "weight_bytes_per_token": n_bytes(self.model)
            - (n_bytes(self.model.model.embed_tokens) if hasattr(self.model, "lm_head") else 0),
            "cache_dtype_bytes": 4,
        }


measure.run(options, MlxLm(options.model))
