# Inference with ONNX files: docker build -t yolopose . && docker run --rm -v "$PWD:/work" yolopose predict model=x.onnx
# Training: docker build --build-arg EXTRAS=torch,track,headless --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
FROM python:3.12-slim AS build
COPY . /source
RUN pip wheel --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim
ARG EXTRAS="headless"
ARG TORCH_INDEX=""
COPY --from=build /wheels /wheels
RUN wheel=$(ls /wheels/*.whl) \
    && if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir torch --index-url "$TORCH_INDEX"; fi \
    && pip install --no-cache-dir "${wheel}[${EXTRAS}]" \
    && useradd --create-home yolopose && mkdir /work && chown yolopose /work
USER yolopose
WORKDIR /work
ENTRYPOINT ["yolo"]
CMD ["help"]
