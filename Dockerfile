# One image per binary: docker build --build-arg BINARY=gateway -t posthouse/gateway target/release
# The base needs glibc, libgcc, OpenSSL 3 and a bundle of authorities; nothing else, no shell. For length and poster of films, the base of the media
# service needs more: see docs/building.md.
ARG BASE=gcr.io/distroless/cc-debian12:nonroot
FROM ${BASE}
ARG BINARY
COPY ${BINARY} /usr/local/bin/posthouse-service
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/posthouse-service"]
