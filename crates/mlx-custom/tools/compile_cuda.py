"""Compiles generated CUDA sources with NVRTC, as MLX does, on a machine without a GPU.

    python3 compile_cuda.py [--architecture sm_90a] SOURCE.cu ...

Sources come from `GpuKernel::cuda_source`. NVIDIA's compiler and MLX's headers come from the wheels `nvidia-cuda-nvrtc`,
`nvidia-cuda-runtime` and `mlx-cuda-13==0.32.2`, installed (or unpacked) into one folder that CUDA_WHEELS names; `nvidia-cuda-cuobjdump`
adds the use of registers. Prints a line per kernel; exits with 1 if one doesn't compile.

Sources begin as MLX writes them. With --standalone they get the beginning with which the engine itself compiles kernels on a GPU:
much faster, and the machine code is the same.
"""

import argparse
import ctypes
import glob
import os
import re
import subprocess
import sys
import tempfile

DEVICE = "mlx/backend/cuda/device/"
# The texts that MLX's library carries for NVRTC, told by a line that each holds.
HEADERS = {
    "utils.cuh": b"using Strides = cuda::std::array",
    "config.h": b"#define MAX_NDIM 10",
    "complex.cuh": b"using complex_t = cuda::std::complex<T>;",
}

# How a source of MLX begins ends with this line (`MLX_BEGINNING` in source.rs).
LAST_LINE_OF_MLX = "#define inf cuda::std::numeric_limits<float>::infinity()\n"
STANDALONE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../src/gpu/prelude/cuda/standalone.cuh")


def standalone(source):
    beginning, line, rest = source.partition(LAST_LINE_OF_MLX)
    if not line:
        sys.exit("this source does not begin as MLX's do")
    return open(STANDALONE).read() + rest


def wheels():
    folder = os.environ.get("CUDA_WHEELS")
    if not folder:
        sys.exit("CUDA_WHEELS must name the folder with the unpacked wheels")
    return folder


def mlx_headers(folder):
    library = open(f"{folder}/mlx/lib/libmlx.so", "rb").read()
    headers = {}
    for name, line in HEADERS.items():
        at = library.find(line)
        if at < 0:
            sys.exit(f"MLX's library has no {name}")
        begin, end = library.rfind(b"\0", 0, at) + 1, library.find(b"\0", at)
        headers[DEVICE + name] = library[begin:end]
    return headers


def compile_source(nvrtc, path, source, architecture, folder, headers):
    kernel = re.search(r"__global__ void (\w+)\(", source)
    if not kernel:
        return None, "no kernel in this source"
    program = ctypes.c_void_p()
    texts = (ctypes.c_char_p * len(headers))(*headers.values())
    names = (ctypes.c_char_p * len(headers))(*[name.encode() for name in headers])
    check(nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), os.path.basename(path).encode(), len(headers), texts, names))
    check(nvrtc.nvrtcAddNameExpression(program, f"mlx::core::cu::{kernel.group(1)}".encode()))
    options = [
        "--device-as-default-execution-space",
        f"--gpu-architecture={architecture}",
        f"--include-path={folder}/mlx/include/cccl",
        f"--include-path={folder}/nvidia/cu13/include",
    ]
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), array)
    size = ctypes.c_size_t()
    check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
    log = ctypes.create_string_buffer(size.value + 1)
    check(nvrtc.nvrtcGetProgramLog(program, log))
    log = log.value.decode(errors="replace").strip()
    if failed:
        return None, log
    check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
    binary = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetCUBIN(program, binary))
    return binary.raw, log


def check(status):
    if status:
        raise RuntimeError(f"NVRTC failed with status {status}")


def resources(binary, folder):
    """Registers and spilled bytes, as cuobjdump tells them."""
    tools = glob.glob(f"{folder}/nvidia/cu13/bin/cuobjdump")
    if not tools:
        return ""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        os.chmod(tools[0], 0o755)
        output = subprocess.run([tools[0], "-res-usage", file.name], capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", output)
    if not found:
        return ""
    return "registers {}, stack {} B, static threadgroup memory {} B, local {} B".format(*found.groups())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architecture", default="sm_90a")
    parser.add_argument("--standalone", action="store_true", help="begin as the engine does, not as MLX does")
    parser.add_argument("--keep", help="folder for the compiled kernels")
    parser.add_argument("sources", nargs="+")
    arguments = parser.parse_args()
    folder = wheels()
    libraries = f"{folder}/nvidia/cu13/lib"
    for builtins in glob.glob(f"{libraries}/libnvrtc-builtins.so*"):
        ctypes.CDLL(builtins, mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(f"{libraries}/libnvrtc.so.13")
    headers = mlx_headers(folder)
    if arguments.keep:
        os.makedirs(arguments.keep, exist_ok=True)
    failures = 0
    for path in arguments.sources:
        source = open(path).read()
        if arguments.standalone:
            source = standalone(source)
        binary, log = compile_source(nvrtc, path, source, arguments.architecture, folder, headers)
        name = os.path.basename(path)
        if binary is None:
            failures += 1
            print(f"{name}: does not compile\n{log}")
            continue
        print(f"{name}: {resources(binary, folder)}")
        if log:
            print(log)
        if arguments.keep:
            with open(os.path.join(arguments.keep, name + ".cubin"), "wb") as file:
                file.write(binary)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
