# The bridge as an image. From the repository's root:
#
#   docker build -f docker/bridge.Dockerfile -t grpc-lambda-bridge .
#
# docs/docker.md says how to run it.

ARG BASE=python:3.15-slim
# A release's version; the build context has no git to ask.
ARG VERSION=0.1.0+local

# -- build: /opt/bridge, a virtual environment with nothing in it that the bridge does not need ------------------------
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# bridge-otel.lock: with what OpenTelemetry traces need.
ARG LOCK=bridge.lock

# Wheels only: the base has no compiler, and no package gets to run a script of its own here. The secrets are optional,
# for an index or an authority of one's own; they are there while this RUN lasts, and in no layer.
COPY docker/build.lock docker/bridge.lock docker/bridge-otel.lock docker/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt \
    python -m venv /opt/build \
 && python -m venv --without-pip /opt/bridge \
 && /opt/build/bin/pip install --require-hashes --only-binary :all: -r docker/build.lock \
 && /opt/build/bin/pip --python /opt/bridge install --require-hashes --only-binary :all: -r docker/${LOCK}

COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
COPY lambda_fn lambda_fn
ARG VERSION
RUN PACKAGE_VERSION="${VERSION}" /opt/build/bin/hatchling build -t wheel -d /wheels \
 && /opt/build/bin/pip --python /opt/bridge install --no-index --no-deps /wheels/*.whl \
 && /opt/build/bin/pip --python /opt/bridge check
COPY docker/healthcheck.py /opt/bridge/
# Whatever the umask of the checkout was, everybody may read.
RUN chmod -R a+rX /opt/bridge

# -- the image ---------------------------------------------------------------------------------------------------------
FROM ${BASE}

# Any other user would do, for nothing is written; this one's home is where .aws may be mounted.
RUN groupadd --gid 10001 bridge \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin bridge \
 && mkdir /home/bridge

COPY --from=build /opt/bridge /opt/bridge

# A container's loopback reaches nobody, so both ports listen on every address of it.
ENV PATH=/opt/bridge/bin:$PATH \
    HOME=/home/bridge \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BRIDGE_CONFIG=/etc/grpc-lambda-bridge/bridge.yaml \
    BRIDGE_LISTEN=0.0.0.0:50051 \
    BRIDGE_ADMIN=0.0.0.0:9901

ARG VERSION
LABEL org.opencontainers.image.title="grpc-lambda-bridge" \
      org.opencontainers.image.description="Unmodified gRPC clients call AWS Lambda functions." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"

WORKDIR /etc/grpc-lambda-bridge
# By number: Kubernetes cannot tell from a name that runAsNonRoot holds.
USER 10001:10001
EXPOSE 50051 9901

HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-I", "/opt/bridge/healthcheck.py"]

# SIGTERM drains; give it more time than `drain` (25s): docker stop -t 30.
STOPSIGNAL SIGTERM
ENTRYPOINT ["grpc-lambda-bridge"]
CMD ["serve"]
