"""The time of a training step in PyTorch, of the model that `examples/step_time.rs` trains: 8.9 M parameters, batch 4 x 128,
ternary weights and int8 activations by straight-through rounding. Prints one JSON line.

Written as people write it: `nn.functional` for norms, attention and the loss, `AdamW` with its fused CPU kernel, everything in
float32, no compilation. `python torch_step.py THREADS`.
"""

import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

HIDDEN, FFN, LAYERS, HEADS, VOCAB = 256, 1024, 8, 8, 2048
BATCH, POSITIONS, STEPS = 4, 128, 12


class BitLinear(nn.Linear):
    def forward(self, x):
        step = 127.0 / x.abs().amax(-1, keepdim=True).clamp_min(1e-5)
        x = x + ((x * step).round().clamp(-128, 127) / step - x).detach()
        scale = 1.0 / self.weight.abs().mean().clamp_min(1e-5)
        w = self.weight + ((self.weight * scale).round().clamp(-1, 1) / scale - self.weight).detach()
        return F.linear(x, w)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        norm = lambda width: nn.RMSNorm(width, eps=1e-5)
        self.attention_norm, self.attention_sub = norm(HIDDEN), norm(HIDDEN)
        self.ffn_norm, self.ffn_sub = norm(HIDDEN), norm(FFN)
        linear = lambda i, o: BitLinear(i, o, bias=False)
        self.q, self.k, self.v, self.o = (linear(HIDDEN, HIDDEN) for _ in range(4))
        self.gate, self.up, self.down = linear(HIDDEN, FFN), linear(HIDDEN, FFN), linear(FFN, HIDDEN)

    def forward(self, x, cos, sin):
        h = self.attention_norm(x)
        split = lambda y: y.view(BATCH, POSITIONS, HEADS, -1).transpose(1, 2)
        q, k, v = rotate(split(self.q(h)), cos, sin), rotate(split(self.k(h)), cos, sin), split(self.v(h))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.o(self.attention_sub(a))
        h = self.ffn_norm(x)
        return x + self.down(self.ffn_sub(F.relu(self.gate(h)).square() * self.up(h)))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, HIDDEN)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(HIDDEN, eps=1e-5)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
        dim = HIDDEN // HEADS
        angles = torch.arange(POSITIONS)[:, None] * 10000.0 ** -(torch.arange(0, dim, 2) / dim)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids, targets):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(F.linear(self.norm(x), self.embedding.weight).flatten(0, 1), targets.flatten())


def main():
    threads = int(sys.argv[1])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = Model()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
    )
    ids = torch.randint(VOCAB, (BATCH, POSITIONS + 1))
    times = []
    for _ in range(STEPS + 2):
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = model(ids[:, :-1], ids[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        times.append((time.perf_counter() - begin) * 1e3)
    times = sorted(times[2:])
    count = sum(p.numel() for p in model.parameters())
    median = statistics.median(times)
    print(json.dumps({"parameters": count, "median_ms": round(median, 1), "fastest_ms": round(times[0], 1),
                      "tokens_per_s": round(BATCH * POSITIONS / median * 1e3), "torch": torch.__version__}))


main()
