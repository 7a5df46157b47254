# Runs test programs and says what each found. Read by ../run, which sets `here` and `logs`.
# shellcheck shell=sh disable=SC2154
#
# Tests run one after another in one thread: so libtest writes a test's name before the test runs, and after a crash it is
# known which one it was. The tests behind it then run in a new process.

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

# Runs one program to its end, prints its line, and those of the tests that did not pass.
report() {
    program=$1
    name=${program##*/}
    log=$logs/$name.txt
    started=$(date +%s)
    # The shell's own word about a crash goes nowhere: the line below says it.
    names=$({ "$program" --list --format terse 2>"$log" | sed -n 's/: test$//p'; } 2>/dev/null)
    if [ -z "$names" ]; then
        printf 'CRASHED  %-18s it cannot list its tests; log: %s\n' "tests/$name" "$log"
        return 1
    fi
    rest=$names
    passed=0
    ignored=0
    bad=
    n_failed=0
    n_crashed=0
    while [ -n "$rest" ]; do
        status=0
        # shellcheck disable=SC2086  # Names of tests hold no spaces.
        { "$program" --test-threads 1 --exact $rest >"$log.part" 2>"$log.errors" || status=$?; } 2>/dev/null
        cat "$log.errors" "$log.part" >>"$log"
        failures=$(results FAILED "$log.part")
        passed=$((passed + $(count "$(results ok "$log.part")")))
        ignored=$((ignored + $(count "$(results ignored "$log.part")")))
        n_failed=$((n_failed + $(count "$failures")))
        for test in $failures; do
            bad="$bad
         failed:  $test"
        done
        # At its end libtest says what it counted. Without that, the program died.
        if grep -q '^test result: ' "$log.part" && [ "$status" -le 101 ]; then break; fi
        n_crashed=$((n_crashed + 1))
        at=$(unfinished "$log.part")
        bad="$bad
         crashed: ${at:-outside of its tests} ($(ending "$status"))"
        if [ -z "$at" ]; then break; fi
        rest=$(printf '%s\n' "$rest" | awk -v at="$at" 'found { print } $0 == at { found = 1 }')
    done
    rm -f "$log.part" "$log.errors"
    n_missing=$(($(count "$names") - passed - ignored - n_failed - n_crashed))
    word=ok
    if [ "$n_failed" -gt 0 ] || [ "$n_missing" -ne 0 ]; then word=FAILED; fi
    if [ "$n_crashed" -gt 0 ]; then word=CRASHED; fi
    printf '%-8s %-18s %s passed' "$word" "tests/$name" "$passed"
    for counted in "$n_failed failed" "$n_crashed crashed" "$ignored ignored" "$n_missing without a result"; do
        case "$counted" in "0 "*) ;; *) printf ', %s' "$counted" ;; esac
    done
    printf ', %s s%s\n' "$(($(date +%s) - started))" "$bad"
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
