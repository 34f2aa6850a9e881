#!/bin/bash -eu
# Build every target and its corpus for OSS-Fuzz.
pip3 install torch --index-url https://download.pytorch.org/whl/cpu
pip3 install ".[dev,serve,sleap,headless]"
for target in fuzz/fuzz_*.py; do
  name=$(basename "$target" .py)
  compile_python_fuzzer "$target" --paths fuzz --paths tests --paths tests/serve --add-data fuzz/project.slp:.
  zip -j -q "$OUT/${name}_seed_corpus.zip" fuzz/corpus/"${name#fuzz_}"/*
done
