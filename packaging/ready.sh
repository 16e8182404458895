#!/bin/bash
# Whether the server takes requests: ready.sh [HOST] [PORT]. Needs bash and nothing else.
set -eu
exec 3<>"/dev/tcp/${1:-127.0.0.1}/${2:-8080}"
printf 'GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r _ status _ <&3
[ "$status" = 200 ]
