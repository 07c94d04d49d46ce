"""Ternary block packers and a small GGUF writer in numpy, from the formats' descriptions; no engine's code.

I2_S, TQ1_0, TQ2_0, Q2_0 (64 or 128) and PTQ1_0 pack trits and scales; the writer does GGUF v2 and v3. make_gguf.py reads every file
back with the `gguf` package where that knows the types.
"""

import struct

import numpy as np

F32, F16, Q8_0, BF16, TQ1_0, TQ2_0, I2_S, Q2_0, PQ2_0, PTQ1_0 = 0, 1, 8, 30, 34, 35, 36, 42, 142, 143


def i2_s(trits, scale):
    """[rows, columns] trits, one f32 scale; 128 values a block, byte p = v[p]<<6 | v[32+p]<<4 | v[64+p]<<2 | v[96+p]."""
    assert trits.shape[1] % 128 == 0
    codes = (trits + 1).astype(np.uint8).reshape(-1, 4, 32)
    data = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    return data.tobytes() + struct.pack("<f", scale) + bytes(28)


def _half_scales(trits, scale):
    """f16 scale of each 256 block; an all-zero block has 0, as the reference quantizer writes."""
    blocks = trits.reshape(-1, 256)
    d = np.full(len(blocks), np.float16(scale), np.float16)
    d[(blocks == 0).all(axis=1)] = 0
    return blocks, d


def tq2_0(trits, scale):
    """66 bytes a block: half h, byte m, shift 2l holds element 128h + 32l + m; then the f16 scale."""
    blocks, d = _half_scales(trits, scale)
    codes = (blocks + 1).astype(np.uint8).reshape(-1, 2, 4, 32)
    codes[d == 0] = 1
    data = codes[:, :, 0] | codes[:, :, 1] << 2 | codes[:, :, 2] << 4 | codes[:, :, 3] << 6
    return np.concatenate([data.reshape(-1, 64), d.view(np.uint8).reshape(-1, 2)], axis=1).tobytes()


def _digits(part, stride, count):
    """Digits in base 3, the most significant first: byte m has the elements n * stride + m, as 256 / 243 of their number, rounded up."""
    part = part.reshape(len(part), count, stride)
    value = np.zeros((len(part), stride), np.uint16)
    for n in range(count):
        value += part[:, n] * np.uint16(3 ** (4 - n))
    return ((value.astype(np.uint32) * 256 + 242) // 243).astype(np.uint8)


def tq1_0(trits, scale):
    """54 bytes a block: base-3 digits, five a byte (0..159 by 32, 160..239 by 16), the last 16 four a byte; f16 scale."""
    blocks, d = _half_scales(trits, scale)
    codes = (blocks + 1).astype(np.uint16)
    codes[d == 0] = 1

    data = [_digits(codes[:, :160], 32, 5), _digits(codes[:, 160:240], 16, 5), _digits(codes[:, 240:], 4, 4)]
    return np.concatenate([*data, d.view(np.uint8).reshape(-1, 2)], axis=1).tobytes()


def q2_0(trits, scales):
    """Groups as wide as `trits` (64; 128 is PQ2_0): f16 d, then element j in byte j/4 at shift 2*(j%4)."""
    codes = (trits + 1).astype(np.uint8).reshape(len(trits), -1, 4)
    data = codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6
    d = scales.astype(np.float16).reshape(-1, 1).view(np.uint8)
    return np.concatenate([d, data], axis=1).tobytes()


def ptq1_0(trits, scales):
    """Groups of 128 in 28 bytes: five digits a byte (0..79 by 16, 80..119 by 8), the last 8 four a byte, then f16 d."""
    codes = (trits + 1).astype(np.uint16)
    data = [_digits(codes[:, :80], 16, 5), _digits(codes[:, 80:120], 8, 5), _digits(codes[:, 120:], 2, 4)]
    return np.concatenate([*data, scales.astype(np.float16).reshape(-1, 1).view(np.uint8)], axis=1).tobytes()


def bf16(values):
    """Nearest-even; exact for values that bf16 holds."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def permute(weight, heads):
    """HF rows [heads, 2, half] -> the interleaved order [heads, half, 2] of GGUF's llama architecture."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


class Writer:
    """Keys in the order given, tensors padded to the alignment; streams nothing, these files are small."""

    def __init__(self, version=3, alignment=32):
        self.version, self.alignment = version, alignment
        self.pairs, self.tensors = [], []
        if alignment != 32:
            self.pair("general.alignment", alignment)

    def pair(self, key, value, kind=None):
        self.pairs.append(self._string(key) + self._value(value, kind))

    def tensor(self, name, dims, type_id, data):
        """`dims` as HF shapes, outermost first; the file has the contiguous one first."""
        self.tensors.append((name, tuple(reversed(dims)), type_id, data))

    @staticmethod
    def _string(text):
        raw = text if isinstance(text, bytes) else text.encode("utf-8")
        return struct.pack("<Q", len(raw)) + raw

    def _value(self, value, kind=None):
        if isinstance(value, bool):
            return struct.pack("<IB", 7, value)
        if isinstance(value, int):
            return struct.pack("<Ii", 5, value) if kind == "i32" else struct.pack("<II", 4, value)
        if isinstance(value, float):
            return struct.pack("<If", 6, value)
        if isinstance(value, (str, bytes)):
            return struct.pack("<I", 8) + self._string(value)
        if isinstance(value[0], (str, bytes)):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(self._string, value))
        if isinstance(value[0], bool):
            return struct.pack("<IIQ", 9, 7, len(value)) + bytes(value)
        if isinstance(value[0], float):
            return struct.pack("<IIQ", 9, 6, len(value)) + np.asarray(value, "<f4").tobytes()
        return struct.pack("<IIQ", 9, 5, len(value)) + np.asarray(value, "<i4").tobytes()

    def bytes(self):
        head = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(self.pairs)) + b"".join(self.pairs)
        body = b""
        for name, dims, type_id, data in self.tensors:
            head += self._string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type_id, len(body))
            body += data + bytes(-len(data) % self.alignment)
        return head + bytes(-len(head) % self.alignment) + body
