FROM python:3.11-slim
RUN pip install --no-cache-dir torch==2.13.0 safetensors==0.8.0 tokenizers==0.23.3 numpy==2.4.6
COPY . /workspace
WORKDIR /workspace
ENTRYPOINT ["python3", "/workspace/train.py"]
