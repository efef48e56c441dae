#!/bin/sh
# Builds stripe-mock, Stripe's own server that checks requests against Stripe's OpenAPI description, once for each version,
# and prints where it is.
set -eu
version=v0.203.0
# Taken where the installed Go is older than the mock wants, as Debian 12's is.
toolchain=go1.22.12

cache=${XDG_CACHE_HOME:-$HOME/.cache}/holdfast
program=$cache/stripe-mock-$version
if [ ! -x "$program" ]; then
    command -v go >/dev/null || {
        echo "Go is missing: run devstack/install.sh, or install golang-go" >&2
        exit 1
    }
    echo "building stripe-mock $version" >&2
    mkdir -p "$cache"
    build=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$build"' EXIT
    trap 'exit 130' INT TERM
    cd "$build"
    go=go
    if [ "$(go env GOVERSION | sed 's/^go1\.\([0-9]*\).*/\1/')" -lt 22 ]; then
        # Go publishes its toolchains as modules, and checks them as it checks every module.
        module=golang.org/toolchain@v0.0.1-$toolchain.$(go env GOOS)-$(go env GOARCH)
        root=$(go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        # A module's files are not executable.
        chmod -R +x "$root/bin" "$root/pkg/tool"
        go=$root/bin/go
    fi
    GOTOOLCHAIN=local GOBIN=$build "$go" install "github.com/stripe/stripe-mock@$version" >&2
    # Whole or not at all, for whoever builds at the same time.
    mv "$build/stripe-mock" "$program"
fi
echo "$program"
