#!/usr/bin/env bash
# Holdfast on the servers that the environment names, every role a process of its own; run it by `devstack run`.
#
#   demo.sh demo    replays the sample orders to shipment, prints what happened, verifies, stops
#   demo.sh serve   keeps serving until it is interrupted
#   demo.sh api-test  holds the API to its OpenAPI document
#
# ORDERS and STOCK name other files than the samples, HOLDFAST another binary.
set -euo pipefail
mode=$1
holdfast=${HOLDFAST:-target/release/holdfast}
orders=${ORDERS:-samples/orders.csv}
stock=${STOCK:-samples/stock.csv}
logs=$(mktemp -d "${TMPDIR:-/tmp}/holdfast-demo.XXXXXX")
declare -A pids=()

say() { printf '\033[1m== %s\033[0m\n' "$*"; }

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() { # free_port PREFERRED
    local port=$1
    until is_free "$port"; do port=$((20000 + RANDOM % 10000)); done
    echo "$port"
}

start() { # start NAME ARGUMENTS…
    local name=$1
    shift
    # In a process group of its own, so that Ctrl-C reaches it once, by `stop`: a second signal would not drain.
    set -m
    "$holdfast" "$@" >"$logs/$name.log" 2>&1 &
    set +m
    pids[$name]=$!
}

stop() { # SIGTERM to all, and each must have drained and exited with 0
    local failed=0 name
    for name in "${!pids[@]}"; do kill -TERM "${pids[$name]}" 2>/dev/null || true; done
    for name in "${!pids[@]}"; do
        wait "${pids[$name]}" || { echo "$name did not stop cleanly; its log: $logs/$name.log"; failed=1; }
    done
    pids=()
    [ $failed = 1 ] || rm -rf "$logs"
    return $failed
}

wait_until_ready() {
    local answer
    for _ in $(seq 300); do
        answer=$( (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3) \
            2>/dev/null || true)
        case $answer in *' 200 '*) return ;; esac
        kill -0 "${pids[api]}" 2>/dev/null || break
        sleep 0.1
    done
    echo "the API did not become ready:"
    tail -n 5 "$logs/api.log"
    exit 1
}

trap 'stop || true' EXIT
trap 'exit 130' INT TERM

port=$(free_port 8080)
sandbox_port=$(free_port 8090)
export HOLDFAST__HTTP__BIND=127.0.0.1:$port
export HOLDFAST__SANDBOX__BIND=127.0.0.1:$sandbox_port
export HOLDFAST__PROVIDER__BASE_URL=http://127.0.0.1:$sandbox_port
export HOLDFAST__PROVIDER__SECRET_KEY=sk_test_sandbox
# So that the payments whose answer never comes do not hold the demo up.
export HOLDFAST__PROVIDER__TIMEOUT_MS=3000

workers=(payment fulfilment expiry import relay retention webhook)
if [ "$mode" = api-test ]; then
    stock=devstack/api-test-stock.csv
    # One client sends as fast as it can, also without a key, and pays little; and shipments are made by requests only.
    export HOLDFAST__HTTP__RATE_LIMIT__REQUESTS_PER_SECOND=0
    export HOLDFAST__HTTP__RATE_LIMIT__WITHOUT_KEY_PER_SECOND=0
    export HOLDFAST__ORDER__MAX_OPEN_PER_CUSTOMER=0
    # Nor does it post anything to the URLs that are made up.
    workers=(payment expiry import relay retention)
fi

say "migrating, and loading the sample stock"
"$holdfast" migrate
"$holdfast" stock import "$stock"
HOLDFAST_API_KEY=$("$holdfast" keys create --name demo --scopes admin 2>/dev/null)
HOLDFAST_API_KEY_ID=$("$holdfast" keys list | cut -d ' ' -f 1)
export HOLDFAST_API_KEY HOLDFAST_API_KEY_ID

say "starting sandbox, api and workers; logs in $logs"
start sandbox sandbox
start api api
for worker in "${workers[@]}"; do start "worker-$worker" worker "$worker"; done
wait_until_ready
"$holdfast" doctor

if [ "$mode" = serve ]; then
    cat <<EOF

The API listens. The walk-through of README.md begins with this line:

  API=http://127.0.0.1:$port KEY=$HOLDFAST_API_KEY

In another terminal, $holdfast works on the same servers with this environment:

$(for name in $(compgen -e HOLDFAST); do printf '  export %s=%q\n' "$name" "${!name}"; done)

Ctrl-C stops everything.
EOF
    wait -n "${pids[@]}" || true
    echo "a process has ended; logs in $logs"
    exit 1
fi

if [ "$mode" = api-test ]; then
    devstack/api-test.sh run "http://127.0.0.1:$port"
    say "verifying"
    "$holdfast" verify
    stop
    trap - EXIT
    exit
fi

say "replaying $orders through the API"
"$holdfast" replay "$orders" --url "http://127.0.0.1:$port" --ttl 20
say "verifying"
"$holdfast" verify
say "stopping"
stop
trap - EXIT
say "done: it all adds up"
