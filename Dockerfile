# mmcompress with everything that `make install` sets up.
#
#   docker build -t mmcompress .
#   docker build -t mmcompress:cuda --build-arg DEVICE=cuda \
#       --build-arg BASE=nvidia/cuda:12.8.1-devel-ubuntu24.04 .
#   docker run --rm -v "$PWD":/work mmcompress search my_search.py
#
# mmcv is compiled: 12 to 18 minutes on 2 cores.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
ARG DEVICE=cpu
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        bash build-essential ca-certificates git libgl1 libglib2.0-0 make \
        python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/mmcompress
COPY . .
RUN DEVICE=${DEVICE} make install && rm -rf /root/.cache
ENV PATH=/opt/mmcompress/.venv/bin:$PATH
WORKDIR /work
ENTRYPOINT ["mmcompress"]
CMD ["--help"]
