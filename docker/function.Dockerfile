# A Lambda function as an image: Python functions behind lambda_fn.runtime, which can stream replies as AWS's own image
# for Python cannot. From the repository's root, the example (docker/function) or a folder of one's own:
#
#   docker build -f docker/function.Dockerfile -t greeter .
#   docker build -f docker/function.Dockerfile -t orders --build-context function=../orders --build-arg HANDLER=orders.handler .
#
# docs/docker.md says how to try it locally and what AWS asks of it.

ARG BASE=python:3.13-slim

# The function's folder; --build-context function=DIR stands in for this stage.
FROM scratch AS function
COPY docker/function /

# -- build: /opt/function, what the function needs, and /var/task, the function ----------------------------------------
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# A file of the function's folder; it names grpcio and protobuf too. If there are hashes in it, pip insists on them.
ARG REQUIREMENTS=requirements.txt
COPY docker/build.lock ./
COPY --from=function /${REQUIREMENTS} requirements.txt
# The secrets are optional, for an index or an authority of one's own; they are there while this RUN lasts, and in no
# layer.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt \
    python -m venv /opt/build \
 && python -m venv --without-pip /opt/function \
 && /opt/build/bin/pip install --require-hashes --only-binary :all: -r build.lock \
 && /opt/build/bin/pip --python /opt/function install -r requirements.txt

COPY lambda_fn lambda_fn
RUN cd lambda_fn \
 && /opt/build/bin/hatchling build -t wheel -d /wheels \
 && /opt/build/bin/pip --python /opt/function install --no-index /wheels/*.whl

# Lambda mounts the image read-only and runs it as a user of its own: bytecode is made now or at every cold start, and
# everybody must be able to read.
COPY --from=function / /var/task
RUN python -m compileall -q /var/task \
 && chmod -R a+rX /var/task /opt/function

# -- the image ---------------------------------------------------------------------------------------------------------
FROM ${BASE}

COPY --from=build /opt/function /opt/function
COPY --from=build /var/task /var/task

# module.attribute. An argument (on AWS: the image's command override) goes before it.
ARG HANDLER=app.handler
ENV PATH=/opt/function/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LAMBDA_TASK_ROOT=/var/task \
    HANDLER=${HANDLER}

WORKDIR /var/task
# As on AWS, where the user is another one and just as powerless.
USER 10001:10001
ENTRYPOINT ["/bin/sh", "-c", "exec python -m lambda_fn.runtime \"${1:-$HANDLER}\"", "function"]
