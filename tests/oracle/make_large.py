"""Expected values of the large-shape case by transformers; its weights come from large_weights.py and are not stored.

    python tests/oracle/make_large.py
"""

import hashlib
import json
import pathlib
import tempfile

import large_weights
from oracle_models import MADE, expect, load_f32

# The strict bound is for the prompts of one token: with 70,000 roundings a prompt, longer ones always have a flip.
PROMPTS = [[0, 17, 300, 511, 42], [3], [500], [77], [0, 5, 5, 5, 256, 99, 100]]

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch) / "large"
        large_weights.write(source)
        out = MADE / "large-2560x6912"
        digest = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
        expect(load_f32(source), PROMPTS, out / "expected" / "f32", steps=8, acts=False)
        (out / "generator.json").write_text(json.dumps({"script": "large_weights.py", "sha256": digest}) + "\n")
        print(digest)
