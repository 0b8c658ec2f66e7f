# The agent as a container image: docs/install.md has the commands to run it. `./run image` builds it. Without
# docker, podman and buildah it reads the ARG, LABEL, VOLUME, ENTRYPOINT and CMD lines of this file.
ARG BASE=debian:13-slim
ARG BUILD_PACKAGES="ca-certificates python3-venv"
ARG PACKAGES="python3"
# --build-arg BCC=yes: adds a compiler, for changed C sources (200 MB more).
ARG BCC=

FROM ${BASE} AS build
ARG BUILD_PACKAGES
RUN apt-get update && apt-get install -y --no-install-recommends ${BUILD_PACKAGES}
COPY . /src
RUN sh /src/packaging/environment /made \
 && /made/usr/lib/hawkwing/bin/python -m compileall -q --invalidation-mode unchecked-hash \
      -s /made /made/usr/lib/hawkwing/lib \
 && install -D -m 755 /src/packaging/image-entry /made/usr/local/bin/hawkwing

FROM ${BASE}
ARG PACKAGES
ARG BCC
RUN apt-get update \
 && apt-get install -y --no-install-recommends ${PACKAGES} ${BCC:+python3-bpfcc linux-libc-dev} \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /made/ /
RUN [ -z "${BCC}" ] || sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' \
      /usr/lib/hawkwing/pyvenv.cfg
LABEL org.opencontainers.image.title="hawkwing"
LABEL org.opencontainers.image.description="Sends a host's own packets over SRv6 paths, with eBPF"
LABEL org.opencontainers.image.licenses="MIT AND GPL-2.0-only"
VOLUME ["/run/hawkwing", "/var/cache/hawkwing"]
ENTRYPOINT ["hawkwing"]
CMD ["--help"]
