# Command line, without torch; it writes as the user that owns the mounted folder:
#   docker build -t yolopose .
#   docker run --rm --user "$(id -u)" -v "$PWD:/work" yolopose predict model=best.onnx source=images
# Training:
#   docker build --build-arg EXTRAS=torch,track,headless -t yolopose-train .
# Server:
#   docker build --target serve -t yolopose-serve .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/models:/models:ro" -e YOLOPOSE_API_KEY yolopose-serve
FROM python:3.12-slim-bookworm AS build
# TORCH_INDEX=https://download.pytorch.org/whl/cpu makes a smaller image for training on the CPU
ARG EXTRAS="headless,serve,track"
ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/yolopose
COPY pyproject.toml README.md LICENSE CHANGELOG.md CITATION.cff /source/
COPY src /source/src
RUN if [ -n "$TORCH_INDEX" ]; then /opt/yolopose/bin/pip install torch --index-url "$TORCH_INDEX"; fi \
    && /opt/yolopose/bin/pip install "/source[${EXTRAS}]"

FROM python:3.12-slim-bookworm AS base
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin yolopose
COPY --from=build /opt/yolopose /opt/yolopose
# settings and caches are written to /tmp
ENV PATH=/opt/yolopose/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp YOLOPOSE_CONFIG_DIR=/tmp/yolopose
USER 10001

FROM base AS serve
WORKDIR /models
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD \
  ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["yolo", "serve", "host=0.0.0.0", "port=8000"]
CMD ["model=/models/model.onnx"]

FROM base AS cli
WORKDIR /work
ENTRYPOINT ["yolo"]
CMD ["help"]
