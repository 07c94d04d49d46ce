"""The GGUF form of a small hybrid (architecture qwen35): value heads tiled, norms with the 1 added, rates of decay ready."""

import numpy as np

import gguf_blocks as gb
from make_gguf import byte_level, f16, f32, keys
from oracle_models import MADE

MATRICES = {
    "linear_attn.in_proj_qkv": "attn_qkv", "linear_attn.in_proj_z": "attn_gate", "linear_attn.out_proj": "ssm_out",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
NORMS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip
FILE_TYPES = {gb.F16: 1, gb.Q2_0: 41, gb.PQ2_0: 41, gb.PTQ1_0: 41}
PACKERS = {gb.Q2_0: gb.q2_0, gb.PQ2_0: gb.q2_0, gb.PTQ1_0: gb.ptq1_0}


def write_gguf(name, made, matrix_type, listed=False):
    """`made` has the model, its trits (`held`), the tokenizer, the fold and whether `ssm_out` keeps grouped columns. `listed`: the kinds
    of the layers are a list and not an interval."""
    config = made.model.config
    writer = gb.Writer()
    recurrent = [kind == "linear_attention" for kind in config.layer_types]
    interval = recurrent.index(False) + 1
    turn = {"attention.recurrent_layers": recurrent} if listed else {"full_attention_interval": interval}
    assert listed or recurrent == [(layer + 1) % interval != 0 for layer in range(len(recurrent))]
    rotated = int(config.head_dim * config.rope_parameters["partial_rotary_factor"])
    sizes = {
        "attention.key_length": config.head_dim, "attention.value_length": config.head_dim, "rope.dimension_sections": [2, 1, 1, 0],
        "ssm.conv_kernel": config.linear_conv_kernel_dim, "ssm.state_size": config.linear_key_head_dim, "ssm.group_count": config.linear_num_key_heads,
        "ssm.time_step_rank": config.linear_num_value_heads, "ssm.inner_size": config.linear_num_value_heads * config.linear_value_head_dim,
    }  # fmt: skip
    keys(writer, "qwen35", config, rotated, FILE_TYPES[matrix_type], **sizes, **turn)
    byte_level(writer, made.tokenizer, "qwen2", made.bos, made.bos + 2, False)
    tensors(writer, made, matrix_type)
    if made.fold:
        contract(writer, made)
    path = MADE / "gguf" / f"{name}.gguf"
    path.write_bytes(writer.bytes())
    print(f"  {path.name}: {len(writer.tensors)} tensors, {path.stat().st_size} bytes", flush=True)


def contract(writer, made):
    """The keys of version 1 for the tensors that are there."""
    stems = {f"{stem}.weight" for stem in MATRICES.values()}
    names = [name for name, *_ in writer.tensors if name.split(".", 2)[-1] in stems or name == "output.weight"]
    fold = made.fold
    pairs = {
        "version": 1, "block_size": fold.block, "transform": "normalized-sylvester-walsh-hadamard", "axis": "input-last-dimension",
        "sign_mode": "explicit" if fold.signs else "identity", "weight_names": names, "inverse_weight_names": ["token_embd.weight"],
        "gdn_v_grouped": made.v_grouped,
    }  # fmt: skip
    if fold.signs:
        pairs["sign_widths"] = list(fold.signs)
        pairs["sign_values"] = [int(s) for values in fold.signs.values() for s in values]
    for key, value in pairs.items():
        writer.pair(f"prism.hadamard.{key}", value)


def tensors(writer, made, matrix_type):
    model, config = made.model, made.model.config

    def matrix(name, module, rows=None, columns=None):
        weight = model.get_submodule(module).weight
        trits, scales = made.held.get(module, (None, None))
        pick = lambda v: v if rows is None else v[rows]  # noqa: E731
        if trits is None or columns is not None and matrix_type != gb.Q2_0:
            # Moved columns would tear groups of 128.
            value = pick(weight.detach())
            writer.tensor(name, *f16(value if columns is None else value[:, columns]))
            return
        group = trits.size // scales.size
        trits, scales = pick(trits), pick(scales.reshape(len(trits), -1))
        if columns is not None:
            assert all(columns[at] % group == 0 for at in range(0, len(columns), group))
            trits, scales = trits[:, columns], scales[:, [at // group for at in columns[::group]]]
        assert group == (64 if matrix_type == gb.Q2_0 else 128)
        writer.tensor(name, trits.shape, matrix_type, PACKERS[matrix_type](trits.reshape(-1, group), scales.reshape(-1)))

    heads, width = config.linear_num_value_heads, config.linear_value_head_dim
    of_key = heads // config.linear_num_key_heads
    # The head at tiled place r * key_heads + k is the r-th of key head k.
    tiled = [k * of_key + r for r in range(of_key) for k in range(config.linear_num_key_heads)]
    dims = [head * width + at for head in tiled for at in range(width)]
    key_width = config.linear_num_key_heads * config.linear_key_head_dim
    channels = list(range(2 * key_width)) + [2 * key_width + at for at in dims]
    moved = None if dims == list(range(len(dims))) or made.fold and made.v_grouped else dims

    matrix("token_embd.weight", "model.embed_tokens")
    for number, layer in enumerate(model.model.layers):
        at = f"model.layers.{number}."
        for hf, stem in MATRICES.items():
            if not hasattr(layer, hf.split(".")[0]):
                continue
            rows = {"attn_qkv": channels, "attn_gate": dims}.get(stem)
            matrix(f"blk.{number}.{stem}.weight", at + hf, rows, moved if stem == "ssm_out" else None)
        for hf, stem in NORMS.items():
            if hasattr(layer, hf.split(".")[0]):
                writer.tensor(f"blk.{number}.{stem}.weight", *f32(1.0 + layer.get_submodule(hf).weight))
        if hasattr(layer, "linear_attn"):
            net = layer.linear_attn
            writer.tensor(f"blk.{number}.ssm_dt.bias", *f32(net.dt_bias[tiled]))
            writer.tensor(f"blk.{number}.ssm_a", *f32(-net.A_log.float().exp()[tiled]))
            writer.tensor(f"blk.{number}.ssm_conv1d.weight", *f32(net.conv1d.weight[channels, 0]))
            writer.tensor(f"blk.{number}.ssm_norm.weight", *f32(net.norm.weight))
            writer.tensor(f"blk.{number}.ssm_beta.weight", *f32(net.in_proj_b.weight[tiled]))
            writer.tensor(f"blk.{number}.ssm_alpha.weight", *f32(net.in_proj_a.weight[tiled]))
    writer.tensor("output_norm.weight", *f32(1.0 + model.model.norm.weight))
    if not config.tie_word_embeddings:
        matrix("output.weight", "lm_head")
