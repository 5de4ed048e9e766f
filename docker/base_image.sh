#!/bin/sh
# Makes a Debian bookworm image with Python 3.11 from Debian's packages, where no image registry can be
# reached. `docker/Dockerfile` builds on it as on the public python:3.11-slim-bookworm.
#
#   docker/base_image.sh [NAME]      (root; about a minute, 250 MB)
set -eu

name=${1:-fineprune-base:bookworm}
docker=${DOCKER:-docker}

if ! command -v mmdebstrap >/dev/null; then
  apt-get update --quiet --quiet
  apt-get install --quiet --quiet --yes --no-install-recommends mmdebstrap >/dev/null
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root/root.tar"
"$docker" import --change 'CMD ["python3"]' "$root/root.tar" "$name" >/dev/null
"$docker" image inspect --format "$name: {{.Size}} bytes" "$name"
