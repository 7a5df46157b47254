"""What the drivers of the other engines have in common: arguments, the prompt, the clock, one JSON line per repetition.

Definitions are those of `tiny-llm bench`, so that the numbers can stand side by side:

- prefill is the prompt and the first token; its time is the time to the first token
- decode is every later token, one at a time, always the most likely one; stop tokens do not stop it
- the prompt is made of the token ids (37 i + 11) mod 10000
"""

import argparse
import json
import os
import resource
import sys
import time


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--generate-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--context-sweep", type=lambda text: [int(n) for n in text.split(",")], default=[])
    return parser.parse_args()


SWEEP_TOKENS = 16  # decoded at each length of a context sweep
WARM_UP_TOKENS = 4


def context_needed(options):
    """The longest sequence that the measurements reach, in tokens."""
    return max([options.prompt_tokens + options.generate_tokens, *(n + SWEEP_TOKENS for n in options.context_sweep)])


def prompt_tokens(n_tokens, vocab_size):
    return [(37 * i + 11) % min(10000, vocab_size) for i in range(n_tokens)]


def run(options, engine):
    """Measures `engine`, which has the following.

    reset()             forget the sequence
    forward(token_ids)  process tokens after those that it has seen, return the most likely next one
    vocab_size, facts   facts is a dict of what to report besides times
    """
    prompt = prompt_tokens(options.prompt_tokens, engine.vocab_size)
    generate(engine, prompt, WARM_UP_TOKENS)
    for repetition in range(options.repeats):
        start_of_report = getattr(engine, "start_own_clock", None)
        if start_of_report:
            start_of_report()
        seconds = generate(engine, prompt, options.generate_tokens)
        record = {
            "prompt_tokens": options.prompt_tokens,
            "generate_tokens": options.generate_tokens,
            "threads": options.threads,
            "prefill_seconds": seconds[0],
            "token_seconds": seconds[1:],
            "context_sweep": [],
            **engine.facts(),
        }
        if repetition == 0:
            record["context_sweep"] = sweep(engine, options.context_sweep)
        record["peak_memory_bytes"] = peak_memory_bytes()
        print(json.dumps(record), flush=True)


def generate(engine, prompt, n_tokens):
    """Seconds for each of `n_tokens` tokens; the first includes the prompt."""
    engine.reset()
    seconds = []
    step = prompt
    for _ in range(n_tokens):
        start = time.perf_counter()
        step = [engine.forward(step)]
        seconds.append(time.perf_counter() - start)
    return seconds


def sweep(engine, contexts):
    """The speed of decoding at several lengths of the context: one sequence that grows."""
    points = []
    engine.reset()
    n_seen = 0
    for context in sorted(contexts):
        ids = prompt_tokens(context, engine.vocab_size)[n_seen:]
        if ids:
            engine.forward(ids)
        start = time.perf_counter()
        token = ids[-1] if ids else 0
        for _ in range(SWEEP_TOKENS):
            token = engine.forward([token])
        elapsed = time.perf_counter() - start
        n_seen = context + SWEEP_TOKENS
        points.append({"context": context, "decode_tokens_per_second": SWEEP_TOKENS / elapsed})
    return points


def peak_memory_bytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
