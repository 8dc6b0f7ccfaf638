# The environment for NVIDIA GPUs, with the compiled norm. The checkout is not in the image; it is mounted:
#   docker build -t rcil .
#   docker run --rm -it --gpus all --ipc host -v "$PWD:/rcil" rcil sh scripts/voc/rcil_15-1-overlap.sh
# Its nvcc is of the CUDA that the torch of requirements-lock.txt was built with.
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl g++ git python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 1000 -g 1000 /opt/venv
# The user of Ubuntu's images, ubuntu: what a run writes into the checkout does not belong to root.
USER 1000
WORKDIR /rcil
ENV VENV=/opt/venv LOCK=1 PIP_NO_CACHE_DIR=1
ENV PATH=$VENV/bin:$PATH
# Made anew only when a list of packages changes.
COPY requirements*.txt ./
COPY scripts/setup.sh scripts/install_inplace_abn.sh scripts/
ARG REQUIREMENTS=requirements.txt
RUN sh scripts/setup.sh
# There is no GPU while an image is built: the cards are named here. PTX serves those that are newer.
ARG TORCH_CUDA_ARCH_LIST="8.0 8.6 8.9 9.0+PTX"
RUN FORCE_CUDA=1 CUDA_HOME=/usr/local/cuda LIBRARY_PATH=/usr/local/cuda/lib64 sh scripts/install_inplace_abn.sh
CMD ["bash"]
