#!/bin/sh
# Installs what `make demo` and `make test` need and what is missing, on Debian and Ubuntu: a C linker for Rust, the
# servers, Go for stripe-mock, promtool for the rules of the alerts, and curl for the walk-through. Through sudo where this is not root. The packages' own services are not started: devstack starts private ones.
set -eu

missing=
need() { # need PACKAGE, unless one of the files is there
    package=$1
    shift
    for file in "$@"; do
        # shellcheck disable=SC2086 # the patterns are to be expanded
        for found in $file; do [ -e "$found" ] && return; done
    done
    missing="$missing $package"
}
need python3-venv '/usr/lib/python3*/ensurepip/__init__.py'
need gcc /usr/bin/gcc /usr/bin/cc
need libc6-dev '/usr/include/stdio.h'
need postgresql '/usr/lib/postgresql/*/bin/postgres'
need default-jre-headless /usr/bin/java
need zookeeper /usr/share/java/zookeeper.jar
need rabbitmq-server '/usr/lib/rabbitmq/bin/rabbitmq-server'
need golang-go "$(command -v go || true)"
need prometheus "$(command -v promtool || true)"
need curl "$(command -v curl || true)"
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || {
    echo "please install:$missing (this script knows only Debian and Ubuntu)" >&2
    exit 1
}
root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "please install, as root: apt-get install$missing" >&2
        exit 1
    }
    root=sudo
fi
echo "installing:$missing"
# While this file says no, the packages' scripts start no service.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $root tee $policy >/dev/null
    $root chmod 755 $policy
    trap '$root rm -f $policy' EXIT
    trap 'exit 130' INT TERM
fi
$root apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
DEBIAN_FRONTEND=noninteractive $root apt-get install -yqq --no-install-recommends $missing >/dev/null
