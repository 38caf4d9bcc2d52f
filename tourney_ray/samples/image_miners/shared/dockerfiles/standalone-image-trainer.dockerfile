# The base is made by `tourney images base`; elsewhere any image with Python, torch, diffusers, transformers and Pillow will do.
FROM tourney/sample-base
ENV OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
COPY . /workspace
WORKDIR /workspace
ENTRYPOINT ["python3", "/workspace/train.py"]
