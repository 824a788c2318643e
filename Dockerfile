# The images of Vitrine: --target cpu or --target gpu. Each holds one virtual environment, made from a lock file.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# What the final images start from.
FROM ${BASE} AS runtime
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin vitrine \
    && install --directory --owner=vitrine --group=vitrine /var/lib/vitrine
ENV PATH=/opt/vitrine/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    VITRINE_HOME=/var/lib/vitrine \
    VITRINE_HOST=0.0.0.0
WORKDIR /home/vitrine

# The secrets of the steps that use pip are all optional: "pip" is a pip.conf, "ca" a bundle of CA certificates.
# The environment that installs: pip from Python itself, at the path that the scripts will have in the final images.
FROM ${BASE} AS installer
RUN python3 -m venv /opt/vitrine

# The project alone, in /project. A layer of its own: when only code changes, the large one stays as it is.
FROM installer AS project
WORKDIR /source
COPY requirements/build.lock requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/vitrine/bin/pip install --require-hashes --requirement requirements/build.lock
COPY . .
RUN /opt/vitrine/bin/pip install --no-index --no-deps --no-build-isolation --no-compile --prefix /project . \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /project -p /opt/vitrine /project

FROM installer AS cpu-environment
COPY requirements/runtime.lock /tmp/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/vitrine/bin/pip install --require-hashes --no-compile --requirement /tmp/runtime.lock \
    && /opt/vitrine/bin/pip uninstall --yes pip \
    && /opt/vitrine/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/vitrine/lib

FROM installer AS gpu-environment
COPY requirements/gpu.lock /tmp/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/vitrine/bin/pip install --require-hashes --no-compile --requirement /tmp/gpu.lock \
    && /opt/vitrine/bin/pip uninstall --yes pip \
    && /opt/vitrine/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/vitrine/lib

FROM runtime AS gpu
# Read by NVIDIA's container runtime, which brings the driver's libraries in.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-environment /opt/vitrine /opt/vitrine
COPY --from=project /project /opt/vitrine
COPY --chmod=755 deploy/healthcheck.py /opt/vitrine/bin/vitrine-healthcheck
USER 10001:10001
VOLUME /var/lib/vitrine
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["vitrine-healthcheck"]
ENTRYPOINT ["vitrine"]
CMD ["serve"]

FROM runtime AS cpu
