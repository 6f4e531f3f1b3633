# The one-node cluster, in the order in which its parts need each other.
for part in go-builds control-plane images node dns traefik; do
    # shellcheck source=/dev/null
    source "$ROOT/scripts/local/$part.sh"
done
IN_K8S=$(in_cache "$K8S")

# Requires `builds_begin`. Traefik is compiled after Kubernetes, whose packages it then finds compiled, and while that starts.
cluster_up() {
    finish 'build kubernetes'
    begin 'build traefik' build_traefik
    step certificates certs
    step 'control plane' control_plane_up
    begin node node_up
    begin dns dns_up
    finish 'build traefik'
    begin traefik traefik_up
    finish dns traefik node
}
