# docker build -t seedfold .
# docker run --rm --gpus all -v "$PWD:/data" seedfold predict /data/input.fasta -o /data/predictions
FROM python:3.11-slim
WORKDIR /opt/seedfold
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY seedfold ./seedfold
COPY data_pipeline ./data_pipeline
COPY kernels ./kernels
RUN pip install --no-cache-dir -c constraints.txt ".[gpu]"
WORKDIR /data
ENTRYPOINT ["seedfold"]
CMD ["--help"]
