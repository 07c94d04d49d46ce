"""A reader of safetensors in numpy, written from the format's description: independent of the engine's."""

import json
import struct

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8", "BOOL": "?"}


def read(directory):
    """All tensors of a directory by name; bf16 is widened to f32."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        for name, info in header.items():
            if name == "__metadata__":
                continue
            first, last = info["data_offsets"]
            blob = data[8 + length + first : 8 + length + last]
            if info["dtype"] == "BF16":
                value = (np.frombuffer(blob, "<u2").astype("<u4") << 16).view("<f4")
            else:
                value = np.frombuffer(blob, DTYPES[info["dtype"]])
            tensors[name] = value.reshape(info["shape"])
    return tensors


def unpack(packed):
    """HF uint8 layout -> int8 trits [4 * rows, columns]: shift 2i holds the i-th block of rows."""
    return np.concatenate([((packed >> (2 * i)) & 3).astype(np.int8) - 1 for i in range(4)])


def ternary_of(tensors, name, divide):
    """(trits, multiplier) of a projection, from a packed weight or from a master by absmean in f32; None if neither."""
    weight, scale = tensors.get(name + ".weight"), tensors.get(name + ".weight_scale")
    if weight is None:
        return None
    if weight.dtype == np.uint8:
        s = np.float32(scale.reshape(-1)[0])
        return unpack(weight), float(np.float32(1) / s if divide else s)
    w = weight.astype(np.float32)
    mean = max(float(np.abs(w.astype(np.float64)).mean()), 1e-5)
    return np.clip(np.round(w / np.float32(mean)), -1, 1).astype(np.int8), mean
