# One image for every process; the command says which.  Versions come from requirements-run.lock, with hashes.
FROM python:3.12.12-slim-bookworm AS build
WORKDIR /build
COPY requirements-run.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/upwell \
 && /opt/upwell/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements-run.lock
COPY workers workers
COPY producers producers
COPY ops ops
RUN /opt/upwell/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12.12-slim-bookworm
RUN useradd --uid 10001 --create-home upwell && install -d -o upwell -g upwell /data
COPY --from=build /opt/upwell /opt/upwell
ENV PATH=/opt/upwell/bin:$PATH PYTHONUNBUFFERED=1 DO_NOT_TRACK=1 SCARF_NO_ANALYTICS=1
USER upwell
WORKDIR /data
VOLUME /data
CMD ["upwell", "--help"]
