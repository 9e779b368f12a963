#!/bin/sh
# The official redis image's interface on Debian's Redis: data in /data, no configuration file, the network let in.
set -eu
case ${1:--} in
    -* | *.conf) set -- redis-server "$@" ;;
esac
[ "$1" = redis-server ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    find /data \! -user redis -exec chown redis:redis {} +
    exec setpriv --reuid=redis --regid=redis --init-groups --inh-caps=-all "$0" "$@"
fi
echo "celium-ops lab stand-in for the redis image: Debian's Redis, not the official image" >&2
exec "$@" --protected-mode no
