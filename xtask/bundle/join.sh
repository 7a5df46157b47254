#!/bin/sh
# Checks the files of SHA256SUMS, joins them, and unpacks them: sh join.sh [FOLDER]
# Without FOLDER: into the folder of this file.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-$here}
mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd)
cd "$here"

sha256sum --check --quiet SHA256SUMS
parts=$(sed 's/^[0-9a-f]*[ *]*//' SHA256SUMS)

decompress() {
    if command -v xz >/dev/null 2>&1; then
        xz --decompress --stdout
    elif command -v python3 >/dev/null 2>&1; then
        python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer, 1 << 20)'
    else
        echo "error: unpacking needs xz (Debian/Ubuntu: apt install xz-utils) or python3" >&2
        return 1
    fi
}

# The names of parts hold no spaces.
cat $parts | decompress | tar --extract --file=- --directory="$folder"
echo "unpacked; next: $folder/tiny-llm-bundle/run check"
