#!/usr/bin/env bash
# What takes longer than tests may: fuzzing for an hour, a thousand kills of tool, supervisor and server, and every test
# again and again under load, as CI never sees it.
# Run as root, like scripts/test.sh, which must have passed before. Prints dated lines; ends at the first failure.
#
#   scripts/soak.sh [HOURS]    default 2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
hours=${1:-2}
end=$(($(date +%s) + hours * 3600))
say() { echo "$(date -u +%FT%TZ) $*"; }

PROPTEST_RNG_SEED=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
export PROPTEST_RNG_SEED
say "soak for $hours h, PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED, $(git rev-parse --short HEAD), $(uname -r), $(nproc) cores"
# Half of the time, each parser's share of it.
targets=$(RUSTC_BOOTSTRAP=1 cargo fuzz list | wc -l)
BRYO_FUZZ_SECONDS=$((hours * 1800 * 2 / targets)) scripts/test.sh --fuzz
say "fuzzing: $targets targets, two at a time, $((hours * 1800 * 2 / targets)) s each: no crash"

BRYO_KILLS=1000 scripts/test.sh containers takeover > /var/tmp/bryo-soak.log 2>&1 || { say "kills FAILED:"; tail -100 /var/tmp/bryo-soak.log; exit 1; }
grep -h 'killed at' /var/tmp/bryo-soak.log || true
say "1000 kills as each user: what was synced was there each time, and programs noticed nothing of a killed server"

BRYO_KILLS=8 scripts/test.sh power_cut > /var/tmp/bryo-soak.log 2>&1 || { say "losses of power FAILED:"; tail -100 /var/tmp/bryo-soak.log; exit 1; }
say "the power lost after each event of the image store, in eight ways each, as each user: what was told was there"

BRYO_HISTORIES=200 scripts/test.sh histories > /var/tmp/bryo-soak.log 2>&1 || { say "histories FAILED:"; tail -100 /var/tmp/bryo-soak.log; exit 1; }
say "200 histories of containers, and 200 pairs of commands at once, as each user: as the model has it"

BRYO_FAULTS=all scripts/test.sh faults > /var/tmp/bryo-soak.log 2>&1 || { say "faults FAILED:"; tail -100 /var/tmp/bryo-soak.log; exit 1; }
say "every fault at every step of pull, tag, rmi and prune, as each user: said, and nothing was lost"

begin=$SECONDS
BRYO_CONTAINERS=1000 scripts/test.sh hundred > /var/tmp/bryo-soak.log 2>&1 || { say "a thousand containers FAILED:"; tail -100 /var/tmp/bryo-soak.log; exit 1; }
say "1000 containers of which 50 ran, as each user, with the build: $((SECONDS - begin)) s"

# The other half, the integration tests while something else wants both cores.
round=0
for _ in $(seq "$(nproc)"); do
    nice -n 5 sh -c 'while :; do head -c 100000000 /dev/urandom | sha256sum > /dev/null; done' &
    load+=($!)
done
trap 'kill "${load[@]}"' EXIT
tests=$(find tests -maxdepth 1 -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort)
while [ "$(date +%s)" -lt $end ]; do
    round=$((round + 1))
    # shellcheck disable=SC2086
    scripts/test.sh $tests > /var/tmp/bryo-soak.log 2>&1 || { say "round $round FAILED:"; tail -100 /var/tmp/bryo-soak.log; exit 1; }
    say "round $round of all integration tests under load, as both users: passed"
done
