# bids_segsr: docker build -t bids_segsr .
# The ordinary index has the CUDA build of torch; a smaller image for CPUs alone:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu -t bids_segsr:cpu .
# Weights of the SegSRGAN authors are baked in by name:
#   docker build --build-arg MODELS="segsrgan-dhcp segsrgan-dhcp-unet" -t bids_segsr:dhcp .
FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
WORKDIR /src
ARG TORCH_INDEX=""
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE MANIFEST.in CITATION.cff CHANGELOG.md ./
COPY bids_segsr bids_segsr
COPY workflows workflows
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install -c constraints.txt .[validate]
ARG MODELS=""
ARG MODELS_MIRROR=""
RUN mkdir -p /opt/models \
    && for name in $MODELS; do \
         BIDS_SEGSR_MIRRORS="$MODELS_MIRROR" \
         /opt/venv/bin/segsr models fetch "$name" --output /opt/models || exit 1; \
       done

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="bids_segsr" \
      org.opencontainers.image.description="Super-resolution and cortex segmentation of thick-slice brain MRI; research use only" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/models /opt/models
# nothing is written to the home folder: it may be read-only or missing
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    BIDS_SEGSR_MODELS=/opt/models \
    LOGNAME=bids_segsr \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    NO_ET=1 \
    NIPYPE_NO_ET=1
RUN mkdir -p /data /out /work
WORKDIR /tmp
ENTRYPOINT ["bids_segsr"]
