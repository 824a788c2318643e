#!/usr/bin/env bash
# Builds the image localhost/vitrine:TARGET with buildah, without a container engine: build-image.sh [cpu|gpu]
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-cpu}
base=${BASE:-docker.io/library/python:3.11-slim-bookworm}
ca_bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
ca_in_build=/etc/ssl/certs/ca-certificates.crt
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

case $target in cpu | gpu) ;; *) echo "build-image.sh: no target $target; there are cpu and gpu" >&2; exit 2 ;; esac

work=$(mktemp -d)
container=
clean() {
    [ -z "$container" ] || buildah rm "$container" >/dev/null || true
    rm -rf "$work"
}
trap clean EXIT

install_missing() {
    command -v "$1" >/dev/null && return
    apt-get install --yes --no-install-recommends "$1" || {
        apt-get update
        apt-get install --yes --no-install-recommends "$1"
    }
}

# A stand-in for the base image, where no registry can be reached: Debian with its own Python 3.11.
make_base() {
    echo "build-image.sh: $base cannot be pulled; making a stand-in for it from Debian packages"
    install_missing debootstrap
    container=$(buildah from scratch)
    local root
    root=$(buildah mount "$container")
    debootstrap --variant=minbase --include=ca-certificates,python-is-python3,python3-venv bookworm "$root" >"$work/log" ||
        { tail -n 20 "$work/log" >&2; return 1; }
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    buildah umount "$container" >/dev/null
    buildah config --cmd python3 --label vitrine.base=stand-in \
        --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit --quiet --rm "$container" "$base"
    container=
}

# What pip inside the build is told of this machine: PIP_INDEX_URL and its like, else /etc/pip.conf.
write_pip_configuration() {
    if [ -z "${PIP_INDEX_URL:-}" ] && [ -s /etc/pip.conf ]; then
        sed "s#^cert *=.*#cert = $ca_in_build#" /etc/pip.conf
        return
    fi
    echo "[global]"
    [ ! -s "$ca_bundle" ] || echo "cert = $ca_in_build"
    local name variable
    for name in index-url extra-index-url trusted-host; do
        variable=${name^^} variable=PIP_${variable//-/_}
        [ -z "${!variable:-}" ] || echo "$name = ${!variable}"
    done
}

install_missing buildah
policy=()
[ -e /etc/containers/policy.json ] || {
    echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$work/policy.json"
    policy=(--signature-policy "$work/policy.json")
}

buildah inspect --type image "$base" >/dev/null 2>&1 || buildah pull --quiet "${policy[@]}" "$base" || make_base

# Build secrets: they are there while pip runs, and leave no trace in the image.
write_pip_configuration >"$work/pip.conf"
secrets=(--secret "id=pip,src=$work/pip.conf")
[ ! -s "$ca_bundle" ] || secrets+=(--secret "id=ca,src=$ca_bundle")

started=$SECONDS
buildah bud --format docker --target "$target" --build-arg "BASE=$base" --pull-never \
    "${policy[@]}" "${secrets[@]}" --tag "localhost/vitrine:$target" .
echo "build-image.sh: built localhost/vitrine:$target in $((SECONDS - started)) s"
buildah images "localhost/vitrine:$target"
