# Runs the tests of tests/gpu under compute-sanitizer. Read by ../run, which sets `here` and `logs`.
# shellcheck shell=sh disable=SC2154
#
# Each test has a process of its own. The sanitizer must see a process's first call of CUDA; and an error of memory spoils
# what the same process does after it.

find_sanitizer() {
    if command -v compute-sanitizer 2>/dev/null; then return 0; fi
    for folder in "${CUDA_HOME:-}/bin" "${CUDA_HOME:-}/compute-sanitizer" /usr/local/cuda*/bin \
        /usr/local/cuda*/compute-sanitizer /opt/cuda/bin /opt/cuda/extras/compute-sanitizer \
        $(python_folders bin) $(python_folders compute-sanitizer); do
        if [ -x "$folder/compute-sanitizer" ]; then
            printf '%s\n' "$folder/compute-sanitizer"
            return 0
        fi
    done
    return 1
}

# The first thing that the sanitizer says of a test. Its own lines begin with `=========`, or stand after words of the test.
first_remark() {
    sed -n 's/^.*========= *//p' "$1" | sed '/^$/d' | grep -v -e '^COMPUTE-SANITIZER' -e '^ERROR SUMMARY' | head -n 1
}

# The sanitizer lost the race to be there before the first call of CUDA. It counts that as an error, and watches nothing.
came_late() {
    grep -q -i '=========.*CUDA \(was \)*initiali[sz]ed before' "$1"
}

# `verdict STATUS FILE`: one word, and why.
verdict() {
    errors=$(sed -n 's/^========= ERROR SUMMARY: \([0-9]*\) error.*/\1/p' "$2" | tail -n 1)
    if came_late "$2"; then
        printf 'UNSEEN   %s tries, and each time: %s\n' "$tries" "$(first_remark "$2")"
    elif [ "${errors:-0}" -gt 0 ]; then
        printf 'ERRORS   %s by memcheck, the first: %s\n' "$errors" "$(first_remark "$2")"
    elif grep -q '^========= .*terminated before first instrumented API call' "$2"; then
        # The sanitizer has nothing to watch, and doesn't end with the test's status.
        if grep -q '^test result: ok' "$2"; then
            echo "no-cuda  passed without a call of CUDA"
        else
            echo "FAILED   without a call of CUDA"
        fi
    elif [ -z "$errors" ]; then
        printf 'UNSEEN   the sanitizer did not finish (%s): %s\n' "$(ending "$1")" "$(first_remark "$2")"
    elif grep -q -i '^=========.* error:' "$2"; then
        printf 'UNSEEN   no error was counted, but: %s\n' "$(first_remark "$2")"
    elif [ "$1" -ne 0 ]; then
        printf 'FAILED   no error of memory, but the test fails (%s)\n' "$(ending "$1")"
    elif grep -q '^test result: ok\. 1 passed' "$2"; then
        printf 'ok       %s\n' "$(first_remark "$2")"
    else
        echo ignored
    fi
}

# How often a test is run that the sanitizer could not watch: with many at the same time, 1 in 16 starts too early for it.
tries=5

# One test; its verdict and its seconds go to files.
sanitize_one() {
    log=$(log_of "$1")
    started=$(date +%s)
    left=$tries
    while
        left=$((left - 1))
        status=0
        "$sanitizer" --tool memcheck --error-exitcode 99 "$here/tests/gpu" --exact "$1" --test-threads 1 \
            >"$log" 2>&1 || status=$?
        [ "$left" -gt 0 ] && came_late "$log"
    do :; done
    verdict "$status" "$log" >"$log.verdict"
    echo $(($(date +%s) - started)) >"$log.seconds"
}

log_of() {
    printf '%s/sanitizer/%s.txt\n' "$logs" "$(printf '%s' "$1" | tr ':' '-')"
}

# Tests at the same time, then their lines in their order.
sanitize_together() {
    for name in "$@"; do sanitize_one "$name" & done
    wait
    for name in "$@"; do
        log=$(log_of "$name")
        found=$(cat "$log.verdict")
        case "$found" in
        ok* | ignored) ;;
        no-cuda*) n_without=$((n_without + 1)) ;;
        *) n_bad=$((n_bad + 1)) ;;
        esac
        n_tests=$((n_tests + 1))
        printf '%-8s %3s s  %-60s %s\n' "${found%% *}" "$(cat "$log.seconds")" "$name" \
            "$(printf '%s' "$found" | sed -n 's/^[^ ]*  *//p')"
        rm -f "$log.verdict" "$log.seconds"
    done
}

# `sanitize [TEXT]`: the tests whose names contain TEXT.
sanitize() {
    sanitizer=$(find_sanitizer) || fail "compute-sanitizer is missing: install the CUDA toolkit ${backend#cuda} (of its \
packages, cuda-sanitizer), or $(wheel nvidia-cuda-sanitizer-api); or put its folder into PATH"
    names=$("$here/tests/gpu" --list --format terse | sed -n 's/: test$//p' | grep -F -- "${1:-}") ||
        fail "no test of tests/gpu has \`${1:-}\` in its name"
    mkdir -p "$logs/sanitizer" || fail "cannot make the folder $logs: set TINY_LLM_LOGS to another one"
    n_tests=0
    n_bad=0
    n_without=0
    set --
    for name in $names; do
        set -- "$@" "$name"
        if [ $# -eq "$jobs" ]; then
            sanitize_together "$@"
            set --
        fi
    done
    [ $# -eq 0 ] || sanitize_together "$@"
    printf '%s tests: %s with an error, %s without a call of CUDA; what the sanitizer wrote is in %s\n' \
        "$n_tests" "$n_bad" "$n_without" "$logs/sanitizer"
    [ "$n_bad" -eq 0 ]
}
