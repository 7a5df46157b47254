"""Measures llama.cpp through llama-cpp-python's low-level interface. See measure.py."""

import ctypes
import sys

import llama_cpp
import numpy

import gguf_header
import measure


@llama_cpp.llama_log_callback
def errors_only(level, text, _user_data):
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        sys.stderr.write(text.decode(errors="replace"))


class LlamaCpp:
    def __init__(self, options):
        llama_cpp.llama_log_set(errors_only, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(options.model.encode(), model_params)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {options.model}")

        # The embedding is a look-up, unless it is the output head as well.
        sizes = gguf_header.tensor_bytes(options.model)
        self.embedding_bytes = sizes["token_embd.weight"] if "output.weight" in sizes else 0

        params = llama_cpp.llama_context_default_params()
        params.n_ctx = measure.context_needed(options)
        params.n_threads = params.n_threads_batch = options.threads
        params.no_perf = False
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("llama.cpp cannot create a context")
        self.n_batch = llama_cpp.llama_n_batch(self.context)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def reset(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def forward(self, token_ids):
        for start in range(0, len(token_ids), self.n_batch):
            chunk = token_ids[start : start + self.n_batch]
            ids = (llama_cpp.llama_token * len(chunk))(*chunk)
            status = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(ids, len(chunk)))
            if status != 0:
                sys.exit(f"llama_decode returned {status}")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(numpy.ctypeslib.as_array(logits, shape=(self.vocab_size,)).argmax())

    def start_own_clock(self):
        llama_cpp.llama_perf_context_reset(self.context)

    def facts(self):
        perf = llama_cpp.llama_perf_context(self.context)
        return {
            "engine": "llama.cpp",
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "system": llama_cpp.llama_print_system_info().decode(),
            "weight_bytes": llama_cpp.llama_model_size(self.model),
            "weight_bytes_per_token": llama_cpp.llama_model_size(self.model) - self.embedding_bytes,
            "cache_dtype_bytes": 2,
            "own_clock": {
                "prefill_tokens_per_second": perf.n_p_eval / perf.t_p_eval_ms * 1e3,
                "decode_tokens_per_second": perf.n_eval / perf.t_eval_ms * 1e3,
            },
        }


options = measure.arguments("Measures llama.cpp.")
measure.run(options, LlamaCpp(options))
