#!/bin/sh
# Makes sure that a Docker Engine answers: the one that is there, or else Debian's, installed and started (root).
# Without bridge and iptables, which a container or a small virtual machine often cannot have: containers
# use the host's network.
set -eu

answers() { curl --silent --fail --output /dev/null --unix-socket /var/run/docker.sock http://localhost/_ping; }

# DOCKER_HOST names an engine elsewhere, which is not ours to start.
if [ -n "${DOCKER_HOST:-}" ] || answers; then exit 0; fi

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
