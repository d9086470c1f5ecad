# syntax=docker/dockerfile:1
# Two images from one file:
#
#   docker build --target app -t mien-app .        the API: Python only, no torch
#   docker build --target worker -t mien-worker .  the worker, for NVIDIA GPUs
#   docker build --target worker -t mien-worker-cpu \
#       --build-arg WORKER_BASE=python:3.11-slim-bookworm \
#       --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
#
# Versions are pinned by constraints.txt.  Nothing is downloaded when a container starts, and no secret is in an image.

ARG APP_BASE=python:3.11-slim-bookworm
# The torch wheel includes the CUDA libraries.  The base image is needed only for its NVIDIA_* variables, which make the
# container toolkit mount the driver.  Its CUDA version equals the wheel's, so that the toolkit reports a driver too old
# for the wheel when the container starts.
ARG WORKER_BASE=nvidia/cuda:13.0.1-base-ubuntu24.04

# --- app: build, then run -------------------------------------------------------------------------------------------

FROM ${APP_BASE} AS app-build
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app ./app
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt '.[app,exports,s3]'

FROM ${APP_BASE} AS app
LABEL org.opencontainers.image.title=mien-app org.opencontainers.image.version=0.2.0.dev0
RUN groupadd --gid 10001 mien && useradd --uid 10001 --gid mien --no-create-home --shell /usr/sbin/nologin mien \
    && install -d -o mien -g mien /data/uploads
COPY --from=app-build /opt/venv /opt/venv
COPY LICENSE docs/licences.md /usr/share/doc/mien/
COPY docker/check_api.py /opt/docker/check_api.py
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MIEN_HOST=0.0.0.0 MIEN_PORT=8000 MIEN_UPLOADS=/data/uploads MIEN_LOG_JSON=true
WORKDIR /data
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python3", "/opt/docker/check_api.py"]
CMD ["python3", "-m", "app"]

# --- worker: build, then run ----------------------------------------------------------------------------------------

FROM ${WORKER_BASE} AS worker-base
# Debian's Python images include python3, CUDA images do not.
RUN command -v python3 >/dev/null || { apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*; }

FROM worker-base AS worker-build
# Empty: the configured index, whose Linux wheel includes CUDA.
ARG TORCH_INDEX=
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# torch is large and changes rarely: a separate layer, before Mien's code.
RUN torch=$(grep '^torch==' constraints.txt) \
    && if [ -n "$TORCH_INDEX" ]; then /opt/venv/bin/pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$torch"; fi \
    && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt "$torch"
COPY app ./app
COPY worker ./worker
COPY model_store ./model_store
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt '.[worker,exports,train,s3]'

FROM worker-base AS worker
LABEL org.opencontainers.image.title=mien-worker org.opencontainers.image.version=0.2.0.dev0
RUN groupadd --gid 10001 mien && useradd --uid 10001 --gid mien --no-create-home --shell /usr/sbin/nologin mien \
    && install -d -o mien -g mien /data/uploads
COPY --from=worker-build /opt/venv /opt/venv
COPY LICENSE docs/licences.md /usr/share/doc/mien/
COPY docker/check_worker.py /opt/docker/check_worker.py
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MIEN_DEVICE=auto MIEN_UPLOADS=/data/uploads MIEN_LOG_JSON=true
WORKDIR /data
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s CMD ["python3", "/opt/docker/check_worker.py"]
STOPSIGNAL SIGTERM
CMD ["python3", "-m", "worker", "run"]
