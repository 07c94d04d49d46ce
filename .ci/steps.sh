# Functions of .ci/run: steps with their times, steps that need not run again, and the report at the end.
# Sourced by a bash with `set -euo pipefail`, in the root of the repository.

# A failing command in `$(...)` ends the run, too.
shopt -s inherit_errexit

# What outlives a clone and its target folder: slow third-party tools, and which steps passed on which files.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bitnet-rust-ci
# The same of the last whole run, committed, so that a fresh machine knows it too.
record=.ci/passed
mkdir -p "$cache/passed"
log=$(mktemp)
rows=$(mktemp)
left=()
digests=()
current=

# Sets `busy` to the seconds of processor time that finished commands took so far.
look_at_processor() {
    # Not in a substitution: `times` speaks of the shell that it runs in.
    times >"$rows.times"
    busy=$(awk 'NR == 2 { split($1, u, /[ms]/); split($2, s, /[ms]/); printf "%d", u[1] * 60 + u[2] + s[1] * 60 + s[2] }' "$rows.times")
}

end_step() {
    look_at_processor
    printf '%7d %9d  %s%s\n' $((SECONDS - began)) $((busy - used)) "$current" "$1" >>"$rows"
    current=
}

# step NAME COMMAND...
step() {
    current=$1
    look_at_processor
    began=$SECONDS used=$busy
    shift
    printf '\n== %s (%s s)\n' "$current" "$began"
    "$@" 2>&1 | tee -a "$log"
    end_step ""
}

# One number for the files under the paths as they are now: committed, changed and new ones, without ignored ones.
digest_of() {
    git ls-files --error-unmatch -- "$@" >/dev/null
    git ls-files -z --cached --others --exclude-standard -- "$@" | sort -z | xargs -0 sha256sum 2>&1 | sha256sum | cut -d ' ' -f 1
}

# step_if_changed NAME PATH... -- COMMAND...: the step, unless it has passed with these same files.
step_if_changed() {
    local name=$1 paths=(.ci/run) digest
    shift
    while [ "$1" != -- ]; do
        paths+=("$1")
        shift
    done
    shift
    digest=$(digest_of "${paths[@]}")
    # The command counts too: two steps may read the same files.
    digest=$(printf '%s %s' "$digest" "$*" | sha256sum | cut -d ' ' -f 1)
    if [ "${CI_FULL:-}" != 1 ]; then
        if [ -e "$cache/passed/$digest" ]; then
            left+=("NOT RUN: $name: unchanged since it passed on this machine (CI_FULL=1 runs it)")
            return
        elif grep -qs "^$digest " "$record"; then
            left+=("NOT RUN: $name: unchanged since it passed in the run that $record is of (CI_FULL=1 runs it)")
            return
        fi
    fi
    local unchecked
    unchecked=$(grep -c '^NOT CHECKED: ' "$log" || true)
    step "$name" "$@"
    # What this machine could not check has not passed, and runs again.
    [ "$(grep -c '^NOT CHECKED: ' "$log" || true)" = "$unchecked" ] || return 0
    touch "$cache/passed/$digest"
    digests+=("$digest $name")
}

# A whole run leaves its record, to be committed with the change.
write_record() {
    [ "${CI_FULL:-}" = 1 ] || return 0
    {
        echo "# What .ci/run has passed with CI_FULL=1: a digest of the files that a step reads, and the step. Written by that run."
        printf '%s\n' "${digests[@]}"
    } >"$record"
    echo "$record is written anew: commit it"
}

# The end of every run, also of one that fails.
report() {
    local code=$?
    trap - EXIT
    [ -z "$current" ] || end_step "  FAILED"
    printf '\nseconds processor  step\n'
    cat "$rows"
    look_at_processor
    printf '%7d %9d  in all\n' "$SECONDS" "$busy"
    grep -h '^NOT CHECKED: ' "$log" | sort -u || true
    [ ${#left[@]} -eq 0 ] || printf '%s\n' "${left[@]}"
    if [ "$code" = 0 ]; then
        echo "passed, but for what is listed as not checked or not run"
    else
        echo "failed (exit $code)" >&2
    fi
    rm -f "$log" "$rows" "$rows.times"
    exit "$code"
}
trap report EXIT
