"""Blocks of ggml's dense types with the values that the `gguf` package (0.19) gives them.

    python make_blocks.py ../../testdata/oracle-made/dense-blocks/blocks.npz

Each type has blocks of random bytes with scales of ordinary size, one of zeros, one of ones, and scales at the ends of
binary16: the smallest subnormal, the largest number, minus zero.
"""

import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Where the f16 scales stand in a block. MXFP4 has an exponent, of which every byte is a value.
SCALES = {
    Type.Q4_1: (0, 2),
    Type.Q5_0: (0,),
    Type.Q5_1: (0, 2),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q5_K: (0, 2),
    Type.IQ4_NL: (0,),
    Type.IQ4_XS: (0,),
    Type.MXFP4: (),
}


def blocks(kind, rng):
    weights, size = GGML_QUANT_SIZES[kind]
    count = 32 if weights == 32 else 8
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    data[0], data[1] = 0, 255
    for at in SCALES[kind]:
        scales = (rng.standard_normal(count) * 0.05).astype(np.float16)
        scales[1:5] = [1.0, 2.0**-24, 65504.0, -0.0]
        data[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return data


arrays, rng = {}, np.random.default_rng(20)
for kind in SCALES:
    data = blocks(kind, rng)
    values = dequantize(data, kind).astype("<f4")
    assert not np.isnan(values).any(), kind
    arrays[f"{kind.name}.bytes"], arrays[f"{kind.name}.f32"] = data, values
np.savez_compressed(sys.argv[1], **arrays)
