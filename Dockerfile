# The images of Vitrine: --target cpu or --target gpu. Each holds one virtual environment, made from a lock file.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# What both images are but for their environment.
FROM ${BASE} AS runtime
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin vitrine \
    && install --directory --owner=vitrine --group=vitrine /var/lib/vitrine
ENV PATH=/opt/vitrine/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VITRINE_HOME=/var/lib/vitrine \
    VITRINE_HOST=0.0.0.0 \
    VITRINE_GRPC_PORT=8001 \
    VITRINE_LOG_FORMAT=json
WORKDIR /home/vitrine
USER 10001:10001
VOLUME /var/lib/vitrine
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:%s/health/ready' % os.environ.get('VITRINE_PORT', '8000'), timeout=4)"]
ENTRYPOINT ["vitrine"]
CMD ["serve"]

# What installs: pip, in an environment at the path that the final images have it at.
# Two build secrets are optional: "pip" is a pip.conf, "ca" a bundle of CA certificates.
FROM ${BASE} AS installer
RUN python3 -m venv /opt/vitrine

# The project alone, a layer of its own: when only code changes, the large layer below it stays.
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
# "tracking" adds MLflow, for the mirror.
ARG LOCK=runtime
COPY requirements/${LOCK}.lock /tmp/environment.lock
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/vitrine/bin/pip install --require-hashes --no-compile --requirement /tmp/environment.lock \
    && /opt/vitrine/bin/pip uninstall --yes pip \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/vitrine/lib

FROM runtime AS cpu
COPY --from=cpu-environment /opt/vitrine /opt/vitrine
COPY --from=project /project /opt/vitrine

FROM installer AS gpu-environment
COPY requirements/gpu.lock /tmp/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/vitrine/bin/pip install --require-hashes --no-compile --requirement /tmp/gpu.lock \
    && /opt/vitrine/bin/pip uninstall --yes pip \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/vitrine/lib

FROM runtime AS gpu
# NVIDIA_*: what the NVIDIA container toolkit brings in. TF_*: compute process and trainers share the GPU's memory.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TF_FORCE_GPU_ALLOW_GROWTH=true
COPY --from=gpu-environment /opt/vitrine /opt/vitrine
COPY --from=project /project /opt/vitrine
