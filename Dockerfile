# docker build -t bids_segsr .
# The ordinary index has the CUDA build of torch; a smaller image for CPUs alone:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu -t bids_segsr:cpu .
# Weights and templates that the image shall hold, by name:
#   docker build --build-arg MODELS="segsrgan-dhcp segsrgan-dhcp-unet" \
#     --build-arg TEMPLATES="MNI152NLin2009cAsym MNIInfant:cohort-1" -t bids_segsr:full .

# Debian withdraws a package's version when it mends it: a pinned one would not be found.
# hadolint global ignore=DL3008
FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/* \
    && mkdir -p /data /out /work

FROM base AS requirements
COPY pyproject.toml container/requirements.py /
RUN python3 /requirements.py /pyproject.toml > /requirements.txt

FROM base AS dependencies
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ARG TORCH_INDEX=""
COPY constraints.txt container/install.sh ./
COPY --from=requirements /requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip ./install.sh dependencies

FROM dependencies AS templates
ARG TEMPLATES=""
RUN ./install.sh templates "$TEMPLATES"

FROM dependencies AS package
COPY pyproject.toml README.md LICENSE MANIFEST.in CITATION.cff CHANGELOG.md ./
COPY bids_segsr bids_segsr
COPY workflows workflows
RUN --mount=type=cache,target=/root/.cache/pip ./install.sh package

FROM dependencies AS models
ARG MODELS=""
ARG MODELS_MIRROR=""
COPY --from=package /package /
RUN BIDS_SEGSR_MIRRORS="$MODELS_MIRROR" ./install.sh models "$MODELS"

FROM base
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=templates /opt/templateflow /opt/templateflow
COPY --from=models /opt/models /opt/models
COPY --from=package /package /
ARG VERSION=0.2.0
ARG REVISION=""
LABEL org.opencontainers.image.title="bids_segsr" \
      org.opencontainers.image.description="Super-resolution and cortex segmentation of thick-slice brain MRI; research use only" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
# Nothing is written to the home folder: it may be read-only or missing.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    BIDS_SEGSR_MODELS=/opt/models \
    BIDS_SEGSR_DOCKER_TAG=$VERSION \
    TEMPLATEFLOW_HOME=/opt/templateflow \
    LOGNAME=bids_segsr \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    NO_ET=1 \
    NIPYPE_NO_ET=1
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["bids_segsr"]
