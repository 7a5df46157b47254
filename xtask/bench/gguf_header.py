"""Sizes of the tensors in a GGUF file, read from its header (the format is described in ggml's docs/gguf.md)."""

import struct

# struct's letters for the scalar types 0 to 12; 8 is a text and 9 a list.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9


def tensor_bytes(path):
    """Name to bytes. Padding between tensors, at most a few dozen bytes, counts with the one before it."""
    with open(path, "rb") as file:

        def scalar(letter):
            return struct.unpack("<" + letter, file.read(struct.calcsize("<" + letter)))[0]

        def text():
            return file.read(scalar("Q")).decode(errors="replace")

        def value(kind):
            if kind == TEXT:
                return text()
            if kind == LIST:
                item, length = scalar("I"), scalar("Q")
                return [value(item) for _ in range(length)]
            return scalar(SCALARS[kind])

        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file")
        scalar("I")  # version
        n_tensors, n_metadata = scalar("Q"), scalar("Q")
        metadata = {text(): value(scalar("I")) for _ in range(n_metadata)}
        starts = {}
        for _ in range(n_tensors):
            name = text()
            for _ in range(scalar("I")):
                scalar("Q")  # a length of the shape
            scalar("I")  # type
            starts[name] = scalar("Q")
        alignment = metadata.get("general.alignment", 32)
        data_start = -(-file.tell() // alignment) * alignment
        end = file.seek(0, 2) - data_start

    ordered = sorted(starts, key=starts.get)
    ends = [starts[name] for name in ordered[1:]] + [end]
    return {name: after - starts[name] for name, after in zip(ordered, ends)}
