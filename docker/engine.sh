#!/bin/sh
# Makes sure that a Docker Engine answers: the one that is there, or else Debian's, installed and started (root).
# Without bridge and iptables, which a container or a small virtual machine often cannot have: containers
# use the host's network.
set -eu

# Asked through the client, which knows of an engine elsewhere by its context or DOCKER_HOST.
answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

if answers; then exit 0; fi
if [ -n "${DOCKER_HOST:-}" ]; then
  echo "docker/engine.sh: no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST" >&2
  exit 1
fi

if [ "$(id -u)" != 0 ]; then
  echo "docker/engine.sh: expected a Docker Engine that lets $(id -un) in, or root to start one; found neither" >&2
  exit 1
fi

if ! command -v dockerd >/dev/null; then
  apt-get update --quiet --quiet
  apt-get install --quiet --quiet --yes --no-install-recommends docker.io >/dev/null
fi
log=/var/log/dockerd.log
setsid dockerd --bridge=none --iptables=false --ip6tables=false >"$log" 2>&1 </dev/null &

for _ in $(seq 60); do
  if answers; then exit 0; fi
  sleep 0.5
done
echo "docker/engine.sh: dockerd does not answer after 30 s; the end of $log:" >&2
tail -n 5 "$log" >&2
exit 1
