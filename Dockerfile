# docker build -t seedfold .
# docker run --rm --gpus all -v "$PWD:/data" seedfold predict /data/input.fasta -o /data/predictions
FROM python:3.11-slim
# Libraries that rdkit's wheel expects of the system.
RUN apt-get update && apt-get install -y --no-install-recommends libxrender1 libxext6 libexpat1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/seedfold
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY seedfold ./seedfold
COPY data_pipeline ./data_pipeline
COPY kernels ./kernels
RUN pip install --no-cache-dir -c constraints.txt ".[gpu]"
WORKDIR /data
ENTRYPOINT ["seedfold"]
CMD ["--help"]
