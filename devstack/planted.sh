#!/usr/bin/env bash
# Plants each fault in turn and lets the failure tests look for it; run it by `make planted`. A fault that none of its tests
# finds fails this, and so does a test that fails without one. FAULTS names some of them.
set -uo pipefail

# fault, and the tests that have to find it: each of them alone is enough.
table='
fence_off                    failure::paused_api::an_api_paused_past_its_session_sells_nothing_twice
ack_before_commit            failure::commits::a_worker_killed_before_its_commit_does_it_again
no_inbox                     failure::duplicates::an_event_delivered_to_two_workers_takes_effect_once
mark_sent_before_confirm     failure::relays::orders_are_taken_while_rabbitmq_is_down
publish_outside_transaction  failure::commits::a_change_is_never_seen_without_its_event
no_idempotency_row           api_idempotency::a_refund_that_is_asked_for_twice_under_one_key_is_one
'
logs=target/planted
mkdir -p "$logs"

build() { cargo test --locked --features planted-faults --test it --no-run "$@"; }
build || exit 1
# The path of the test binary is in the last line: Executable tests/it/main.rs (target/debug/deps/it-…)
tests=$(build 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p' | tail -n 1)
[ -x "$tests" ] || { echo "the test binary was not found"; exit 1; }

run() { # run FAULT TEST: whether the test passes with the fault
    HOLDFAST_PLANTED_FAULT=$1 "$tests" --exact "$2" >"$logs/${1:-none}.log" 2>&1
}

missed=0
printf '%-28s %s\n' fault 'found by'
while read -r fault test; do
    [ -n "$fault" ] || continue
    case " ${FAULTS:-$fault} " in *" $fault "*) ;; *) continue ;; esac
    if ! run '' "$test"; then
        printf '%-28s %s fails without any fault: %s\n' "$fault" "$test" "$logs/none.log"
        missed=1
    elif run "$fault" "$test"; then
        printf '%-28s NOT FOUND by %s\n' "$fault" "$test"
        missed=1
    elif ! grep -q "panicked at" "$logs/$fault.log" || ! grep -q "^test .* FAILED" "$logs/$fault.log"; then
        printf '%-28s %s did not run: %s\n' "$fault" "$test" "$logs/$fault.log"
        missed=1
    else
        printf '%-28s %s\n' "$fault" "$test"
    fi
done <<<"$table"
exit $missed
