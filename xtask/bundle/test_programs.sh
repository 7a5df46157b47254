# Runs test programs and says what each found. Read by ../run, which sets `here` and `logs`.
# shellcheck shell=sh disable=SC2154
#
# Most of a test's time goes into compiling its kernels, which MLX does one at a time in a process. So a program's tests are
# dealt out to several processes. Within each they run one after another: so libtest writes a test's name before the test
# runs, and after a crash it is known which one it was. The tests behind it then run in a new process.

# `results WORD FILE`: the tests with this result. What a library printed may stand between a name and its result.
results() {
    sed -n "s/^test \\([^ ]*\\)\\( - should panic\\)\\{0,1\\} \\.\\.\\. \\(.*[^a-zA-Z]\\)\\{0,1\\}$1\\(, .*\\)\\{0,1\\}\$/\\1/p" "$2"
}

count() {
    if [ -n "$1" ]; then printf '%s\n' "$1" | wc -l | tr -d ' '; else echo 0; fi
}

# The last test that was started, if it has no result.
unfinished() {
    last=$(sed -n 's/^test \([^ ]*\)\( - should panic\)\{0,1\} \.\.\. .*/\1/p' "$1" | tail -n 1)
    for word in ok FAILED ignored; do
        if results "$word" "$1" | grep -qxF -- "$last"; then return 0; fi
    done
    printf '%s\n' "$last"
}

# How a program ended: the shell adds 128 to the number of a signal, and there are 64 of them.
ending() {
    if [ "$1" -gt 128 ] && [ "$1" -le 192 ]; then printf 'signal %s' $(($1 - 128)); else printf 'exit status %s' "$1"; fi
}

# Runs the tests named in `$log.$1.names`, and writes what came of them to files that begin with `$log.$1.`.
run_share() {
    share=$log.$1
    rest=$(cat "$share.names")
    : >"$share.log"
    : >"$share.bad"
    while [ -n "$rest" ]; do
        status=0
        # The shell's own word about a crash goes nowhere: a line of the report says it.
        # shellcheck disable=SC2086  # Names of tests hold no spaces.
        { "$program" --test-threads 1 --exact $rest >"$share.part" 2>"$share.errors" || status=$?; } 2>/dev/null
        cat "$share.errors" "$share.part" >>"$share.log"
        for test in $(results FAILED "$share.part"); do printf 'failed:  %s\n' "$test" >>"$share.bad"; done
        # At its end libtest says what it counted. Without that, the program died.
        if grep -q '^test result: ' "$share.part" && [ "$status" -le 101 ]; then break; fi
        at=$(unfinished "$share.part")
        printf 'crashed: %s (%s)\n' "${at:-outside of its tests}" "$(ending "$status")" >>"$share.bad"
        if [ -z "$at" ]; then break; fi
        rest=$(printf '%s\n' "$rest" | awk -v at="$at" 'found { print } $0 == at { found = 1 }')
    done
}

# Runs one program to its end, prints its line, and those of the tests that did not pass.
report() {
    program=$1
    name=${program##*/}
    log=$logs/$name.txt
    started=$(date +%s)
    names=$({ "$program" --list --format terse 2>"$log" | sed -n 's/: test$//p'; } 2>/dev/null)
    if [ -z "$names" ]; then
        printf 'CRASHED  %-18s it cannot list its tests; log: %s\n' "tests/$name" "$log"
        return 1
    fi
    n_shares=$(count "$names")
    if [ "$n_shares" -gt "$jobs" ]; then n_shares=$jobs; fi
    share_number=0
    while [ "$share_number" -lt "$n_shares" ]; do
        # Neighbours compile the same kernels in other sizes: dealt out like cards, they take all processes alike.
        printf '%s\n' "$names" | awk -v k="$share_number" -v n="$n_shares" 'NR % n == k' >"$log.$share_number.names"
        run_share "$share_number" &
        share_number=$((share_number + 1))
    done
    wait
    cat "$log".*.log >>"$log"
    bad=$(cat "$log".*.bad)
    passed=$(count "$(results ok "$log")")
    ignored=$(count "$(results ignored "$log")")
    n_failed=$(count "$(printf '%s\n' "$bad" | grep '^failed: ' || true)")
    n_crashed=$(count "$(printf '%s\n' "$bad" | grep '^crashed: ' || true)")
    rm -f "$log".*.names "$log".*.log "$log".*.bad "$log".*.part "$log".*.errors
    # A crash outside of the tests took no test with it.
    n_lost=$(count "$(printf '%s\n' "$bad" | grep '^crashed: ' | grep -v 'outside of its tests' || true)")
    n_missing=$(($(count "$names") - passed - ignored - n_failed - n_lost))
    word=ok
    if [ "$n_failed" -gt 0 ] || [ "$n_missing" -ne 0 ]; then word=FAILED; fi
    if [ "$n_crashed" -gt 0 ]; then word=CRASHED; fi
    printf '%-8s %-18s %s passed' "$word" "tests/$name" "$passed"
    for counted in "$n_failed failed" "$n_crashed crashed" "$ignored ignored" "$n_missing without a result"; do
        case "$counted" in "0 "*) ;; *) printf ', %s' "$counted" ;; esac
    done
    printf ', %s s\n' "$(($(date +%s) - started))"
    if [ -n "$bad" ]; then printf '%s\n' "$bad" | sed 's/^/         /'; fi
    [ "$word" = ok ]
}

# All programs of tests/.
report_all() {
    mkdir -p "$logs" || fail "cannot make the folder $logs: set TINY_LLM_LOGS to another one"
    n_ok=0
    n_bad=0
    for program in "$here"/tests/*; do
        [ -x "$program" ] || fail "there is nothing in tests/"
        if report "$program"; then n_ok=$((n_ok + 1)); else n_bad=$((n_bad + 1)); fi
    done
    printf '%s test programs passed, %s did not; what they wrote is in %s\n' "$n_ok" "$n_bad" "$logs"
    [ "$n_bad" -eq 0 ]
}
