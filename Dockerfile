# The image of the containers of `imgpipe kubeflow`, and of docs/how-to/container.md: docker build -t imgpipe .
FROM python:3.11-slim

# A container may run as any user without a home folder, so nothing is written below /opt. The cache of
# uv is not below HOME, where its mount would leave a folder of root.
ENV HOME=/tmp \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    UV_CACHE_DIR=/root/.cache/uv \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never

RUN pip install --no-cache-dir uv==0.13.8

WORKDIR /opt/imgpipe

# The locked packages, some 3 GB, in a layer that is kept until the lock changes; without headers,
# compilers and tests, which no task reads.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --extra backbones --extra heic --extra kubeflow --extra object-store --extra onnx --no-install-project \
    && cd /opt/venv/lib/python3.11/site-packages && rm -rf tensorflow/include clang \
    && find . -type d -name tests -prune -exec rm -rf {} +

# imgpipe alone, in a layer that changes with the code; uv's cache would keep the wheel of older code.
COPY README.md LICENSE NOTICE ./
COPY src src
COPY components components
COPY models models
COPY pipeline pipeline
COPY serving serving
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --extra backbones --extra heic --extra kubeflow --extra object-store --extra onnx --no-editable --reinstall-package imgpipe

WORKDIR /tmp
USER 1000
EXPOSE 8500 8501
ENTRYPOINT ["imgpipe"]
