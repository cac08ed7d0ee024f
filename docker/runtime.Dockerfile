# A customer-managed runtime for Lambda: Python functions in plain zips run behind lambda_fn.runtime, which can stream
# replies as AWS's own Python runtime cannot. The zip holds the function's code alone. From the repository's root:
#
#   docker build -f docker/runtime.Dockerfile -t lambda-fn-runtime .
#
# docs/deploy.md says how it becomes a runtime, and what of that was not tried.

ARG BASE=python:3.13-slim

# -- build: /var/lang, a virtual environment with grpcio, protobuf and lambda_fn ---------------------------------------
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

COPY docker/build.lock docker/function/requirements.txt ./
# The secrets are optional, for an index or an authority of one's own; they are there while this RUN lasts, and in no
# layer.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt \
    python -m venv /opt/build \
 && python -m venv --without-pip /var/lang \
 && /opt/build/bin/pip install --require-hashes --only-binary :all: -r build.lock \
 && /opt/build/bin/pip --python /var/lang install --require-hashes --only-binary :all: -r requirements.txt

COPY lambda_fn lambda_fn
RUN cd lambda_fn \
 && /opt/build/bin/hatchling build -t wheel -d /wheels \
 && /opt/build/bin/pip --python /var/lang install --no-index /wheels/*.whl \
 && chmod -R a+rX /var/lang

# -- the image: nothing in /var/task and /opt, where Lambda puts the zip and the layers --------------------------------
FROM ${BASE}

COPY --from=build /var/lang /var/lang
COPY docker/runtime/bootstrap /var/runtime/

ENV PATH=/var/lang/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LAMBDA_TASK_ROOT=/var/task \
    LAMBDA_RUNTIME_DIR=/var/runtime

WORKDIR /var/task
USER 10001:10001
ENTRYPOINT ["/var/runtime/bootstrap"]
