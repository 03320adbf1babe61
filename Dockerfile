# The checking service: docker compose up (see compose.yml), or
#   docker build --tag devilgan . && docker run --read-only --tmpfs /tmp --volume checks:/data --publish 127.0.0.1:8765:8765 \
#     --volume ./keys.txt:/run/secrets/keys:ro devilgan
# PIP_OPTIONS may name an index with CPU-only builds of torch, which are much smaller.
FROM python:3.11-slim-bookworm
ARG PIP_OPTIONS=""
COPY pyproject.toml README.md LICENSE /source/
COPY devilgan_lite /source/devilgan_lite
COPY data /source/data
RUN pip install --no-cache-dir ${PIP_OPTIONS} '/source[service,keras]' 'psycopg[binary]>=3.2' && rm -r /source \
    && useradd --system --uid 10001 --no-create-home checks \
    && install --directory --owner checks --mode 700 /data
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["devilgan", "serve", "--host", "0.0.0.0", "--folder", "/data"]
CMD ["--keys", "/run/secrets/keys"]
