# Every part of the local stack.
source "$ROOT/scripts/local/backends.sh"
source "$ROOT/scripts/local/cluster.sh"
source "$ROOT/scripts/local/app.sh"
source "$ROOT/scripts/local/posthouse.sh"
