# docker build -t muhdi .                                       for a CPU
# docker build -t muhdi:cuda --build-arg TORCH_INDEX=cu130 .    for an NVIDIA GPU
FROM python:3.12-slim

ARG TORCH_INDEX=cpu
WORKDIR /opt/muhdi
# PyTorch first: it changes least, and so stays in its own layer.
COPY constraints.txt .
RUN pip install --no-cache-dir -c constraints.txt torch \
    --index-url https://download.pytorch.org/whl/${TORCH_INDEX} --extra-index-url https://pypi.org/simple
COPY pyproject.toml README.md LICENSE ./
COPY muhdi muhdi
RUN pip install --no-cache-dir -c constraints.txt '.[onnx,video,hf]'

WORKDIR /data
ENTRYPOINT ["muhdi"]
CMD ["--help"]
