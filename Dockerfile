# The image of the containers of `imgpipe kubeflow`, and of docs/how-to/container.md: docker build -t imgpipe .
FROM debian:trixie-slim AS packages

# The index has pyfarmhash, which TensorFlow Data Validation needs, as sources alone.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ python3-dev python3-venv
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# The packages, some 3 GB: here imgpipe has no code yet, so that they are kept until their list changes.
# Headers, compilers and tests, which no task reads, go.
WORKDIR /opt/imgpipe
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src/imgpipe/__init__.py src/imgpipe/
RUN --mount=type=cache,target=/root/.cache/pip pip install '.[backbones,heic,kubeflow,object-store,onnx]' \
    && cd /opt/venv/lib/python3.13/site-packages && rm -rf tensorflow/include clang \
    && find . -type d -name tests -prune -exec rm -rf {} +

FROM debian:trixie-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

# A container may run as any user without a home folder, so nothing is written below /opt.
ENV HOME=/tmp \
    PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

COPY --from=packages /opt/venv /opt/venv

# imgpipe alone, in a layer that changes with the code.
WORKDIR /opt/imgpipe
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY components components
COPY models models
COPY pipeline pipeline
COPY serving serving
RUN pip install --no-deps --force-reinstall .

WORKDIR /tmp
USER 1000
EXPOSE 8500 8501
ENTRYPOINT ["imgpipe"]
