# What this machine has of NVIDIA, and where. Read by ../run, which sets `here` and `backend`.
# shellcheck shell=sh disable=SC2154,SC2016,SC2013

# The libraries that the loader does not find, one a line.
missing() {
    ldd "$here/bin/tiny-llm" 2>&1 | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' | sort -u
}

# Folders of NVIDIA's wheels that python3 knows: lib, include, bin.
python_folders() {
    command -v python3 >/dev/null 2>&1 || return 0
    python3 - "$1" <<'PYTHON' 2>/dev/null || true
import glob, os, sys
for folder in sys.path:
    for found in sorted(glob.glob(os.path.join(folder, "nvidia", "*", sys.argv[1]))):
        print(found)
PYTHON
}

# Where NVIDIA's libraries usually are.
library_folders() {
    for folder in /usr/local/cuda-1*/targets/*/lib /usr/local/cuda/targets/*/lib /usr/local/cuda*/lib64 \
        /usr/local/nvidia/lib64 /opt/cuda/lib64 /usr/lib/*-linux-gnu /usr/lib64; do
        if [ -d "$folder" ]; then printf '%s\n' "$folder"; fi
    done
    python_folders lib
}

# Extends LD_LIBRARY_PATH by the folders that hold what is missing, and by no others.
find_libraries() {
    wanted=$(missing)
    [ -n "$wanted" ] || return 0
    folders=$(library_folders)
    for library in $wanted; do
        while IFS= read -r folder; do
            [ -n "$folder" ] && [ -e "$folder/$library" ] || continue
            case ":${LD_LIBRARY_PATH:-}:" in
            *":$folder:"*) ;;
            *) LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder" ;;
            esac
            break
        done <<FOLDERS
$folders
FOLDERS
    done
    if [ -n "${LD_LIBRARY_PATH:-}" ]; then export LD_LIBRARY_PATH; fi
}

# MLX compiles kernels against the toolkit's headers. It looks into CUDA_HOME, CUDA_PATH and /usr/local/cuda itself.
find_headers() {
    for home in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /usr/local/cuda-1* /opt/cuda; do
        if [ -n "$home" ] && [ -e "$home/include/cuda_fp16.h" ]; then
            export CUDA_HOME="$home"
            return 0
        fi
    done
    for include in $(python_folders include); do
        if [ -e "$include/cuda_fp16.h" ]; then
            CUDA_HOME=$(dirname -- "$include")
            export CUDA_HOME
            return 0
        fi
    done
    return 1
}

# One line for everything that keeps programs from starting; nothing if they start.
obstacles() {
    ldd "$here/bin/tiny-llm" 2>&1 | sed -n 's/^.*: \(version `[^`]*\) not found (required by .*$/this Linux is too old: \1 is missing/p' | sort -u
    cuda=${backend#cuda}
    for library in $(missing); do
        case "$library" in
        libcuda.so.*) remedy="install the NVIDIA driver" ;;
        libcudnn*) remedy="install cuDNN 9 for CUDA $cuda, or pip install nvidia-cudnn-cu$cuda" ;;
        libnccl*) remedy="install NCCL, or pip install nvidia-nccl-cu$cuda" ;;
        libcublas*) remedy="install the CUDA toolkit $cuda, or $(wheel nvidia-cublas)" ;;
        libcufft*) remedy="install the CUDA toolkit $cuda, or $(wheel nvidia-cufft)" ;;
        libnvrtc*) remedy="install the CUDA toolkit $cuda, or $(wheel nvidia-cuda-nvrtc)" ;;
        *) remedy="install the package that brings it" ;;
        esac
        printf '%s is missing: %s\n' "$library" "$remedy"
    done
    case "$backend" in
    cuda*) find_headers ||
        printf 'cuda_fp16.h is missing: install the headers of the CUDA toolkit %s or %s, or set CUDA_HOME\n' \
            "$cuda" "$(wheel nvidia-cuda-runtime)" ;;
    esac
}

# From CUDA 13 on, the names of these wheels do not say for which CUDA they are.
wheel() {
    case "$backend" in
    cuda12) printf 'pip install %s-cu12' "$1" ;;
    *) printf "pip install '%s==%s.*'" "$1" "$([ "$1" = nvidia-cufft ] && echo 12 || echo 13)" ;;
    esac
}

# Where each of NVIDIA's libraries was found, as the loader says it.
show_libraries() {
    for library in $(sed -n 's/^nvidia: //p' "$here/manifest.txt"); do
        place=$(ldd "$here/bin/tiny-llm" | sed -n "s|^[[:space:]]*$library => \\(/[^ ]*\\).*|\\1|p")
        [ "$library" = - ] || printf '  %-20s %s\n' "$library" "${place:-not found}"
    done
}

has_compiler() {
    for compiler in ${CXX:-c++ g++ clang++}; do
        if command -v "$compiler" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}
