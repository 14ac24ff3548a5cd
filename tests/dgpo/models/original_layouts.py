"""The layouts in which models are published as one file, made of diffusers' own by hand: what conversions undo."""

import re
from collections.abc import Iterable, Mapping

import torch

Tensors = Mapping[str, torch.Tensor]


def renamed(tensors: Tensors, rules: Iterable[tuple[str, str]], prefix: str = "") -> dict[str, torch.Tensor]:
    """Each rule, a regular expression and what it becomes, in its turn."""
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[prefix + name] = tensor
    return found


def fused(tensors: Tensors, parts: Iterable[str], whole: str) -> dict[str, torch.Tensor]:
    """Query, key and value of every layer in one: `parts` are the ends of their names, without `.weight`."""
    first, *others = parts
    found = dict(tensors)
    for name in [name for name in tensors if f"{first}." in name]:
        rows = [found.pop(name.replace(f"{first}.", f"{part}.")) for part in (first, *others)]
        found[name.replace(f"{first}.", f"{whole}.")] = torch.cat(rows)
    return found


def swapped(tensors: Tensors, pattern: str) -> dict[str, torch.Tensor]:
    """Shift before scale, where diffusers has scale before shift."""
    return {
        name: torch.cat(tensor.chunk(2)[::-1]) if re.search(pattern, name) else tensor
        for name, tensor in tensors.items()
    }


def sd3(tensors: Tensors, layers: int) -> dict[str, torch.Tensor]:
    """Of `SD3Transformer2DModel`."""
    found = fused(tensors, ("attn.to_q", "attn.to_k", "attn.to_v"), "x_block.attn.qkv")
    found = fused(found, ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"), "context_block.attn.qkv")
    found = fused(found, ("attn2.to_q", "attn2.to_k", "attn2.to_v"), "x_block.attn2.qkv")
    found = swapped(found, rf"norm_out|transformer_blocks\.{layers - 1}\.norm1_context")
    rules = [
        (r"^pos_embed\.pos_embed$", "pos_embed"), (r"^pos_embed\.proj", "x_embedder.proj"),
        (r"^time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
        (r"^time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
        (r"^time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
        (r"^time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
        (r"^proj_out", "final_layer.linear"), (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
        (r"^transformer_blocks", "joint_blocks"), (r"attn\.to_add_out", "context_block.attn.proj"),
        (r"\.(attn2?)\.to_out\.0", r".x_block.\1.proj"), (r"attn\.norm_added_([qk])", r"context_block.attn.ln_\1"),
        (r"\.(attn2?)\.norm_([qk])", r".x_block.\1.ln_\2"), (r"norm1\.linear", "x_block.adaLN_modulation.1"),
        (r"norm1_context\.linear", "context_block.adaLN_modulation.1"), (r"ff\.net\.0\.proj", "x_block.mlp.fc1"),
        (r"ff\.net\.2", "x_block.mlp.fc2"), (r"ff_context\.net\.0\.proj", "context_block.mlp.fc1"),
        (r"ff_context\.net\.2", "context_block.mlp.fc2"),
    ]  # fmt: skip
    return renamed(found, rules)


def z_image(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Of `ZImageTransformer2DModel`."""
    found = fused(tensors, ("attention.to_q", "attention.to_k", "attention.to_v"), "attention.qkv")
    rules = [
        (r"^all_final_layer\.2-1", "final_layer"), (r"^all_x_embedder\.2-1", "x_embedder"),
        (r"attention\.to_out\.0", "attention.out"), (r"attention\.norm_([qk])", r"attention.\1_norm"),
    ]  # fmt: skip
    return renamed(found, rules)


def flux2(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Of `Flux2Transformer2DModel`."""
    found = fused(tensors, ("attn.to_q", "attn.to_k", "attn.to_v"), "img_attn.qkv")
    found = fused(found, ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"), "txt_attn.qkv")
    found = swapped(found, "norm_out")
    single, double = r"^single_transformer_blocks(\.\d+)", r"^transformer_blocks(\.\d+)"
    rules = [
        (rf"{single}\.attn\.to_qkv_mlp_proj", r"single_blocks\1.linear1"),
        (rf"{single}\.attn\.to_out", r"single_blocks\1.linear2"),
        (rf"{single}\.attn\.norm_q\.weight", r"single_blocks\1.norm.query_norm.scale"),
        (rf"{single}\.attn\.norm_k\.weight", r"single_blocks\1.norm.key_norm.scale"),
        (double, r"double_blocks\1"), (r"attn\.norm_added_q\.weight", "txt_attn.norm.query_norm.scale"),
        (r"attn\.norm_added_k\.weight", "txt_attn.norm.key_norm.scale"), (r"attn\.to_add_out", "txt_attn.proj"),
        (r"attn\.norm_q\.weight", "img_attn.norm.query_norm.scale"), (r"attn\.to_out\.0", "img_attn.proj"),
        (r"attn\.norm_k\.weight", "img_attn.norm.key_norm.scale"), (r"\.ff\.linear_in", ".img_mlp.0"),
        (r"\.ff\.linear_out", ".img_mlp.2"), (r"\.ff_context\.linear_in", ".txt_mlp.0"),
        (r"\.ff_context\.linear_out", ".txt_mlp.2"), (r"^x_embedder", "img_in"), (r"^context_embedder", "txt_in"),
        (r"^time_guidance_embed\.timestep_embedder\.linear_1", "time_in.in_layer"),
        (r"^time_guidance_embed\.timestep_embedder\.linear_2", "time_in.out_layer"),
        (r"^time_guidance_embed\.guidance_embedder\.linear_1", "guidance_in.in_layer"),
        (r"^time_guidance_embed\.guidance_embedder\.linear_2", "guidance_in.out_layer"),
        (r"(modulation\w*)\.linear", r"\1.lin"), (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
        (r"^proj_out", "final_layer.linear"),
    ]  # fmt: skip
    return renamed(found, rules)


def sana(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Of `SanaTransformer2DModel`, with the two tensors that only its training reads."""
    found = fused(tensors, ("attn1.to_q", "attn1.to_k", "attn1.to_v"), "attn.qkv")
    found = fused(found, ("attn2.to_k", "attn2.to_v"), "cross_attn.kv_linear")
    rules = [
        (r"^patch_embed", "x_embedder"), (r"^time_embed\.linear", "t_block.1"),
        (r"^time_embed\.emb\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
        (r"^time_embed\.emb\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
        (r"^caption_projection\.linear_", "y_embedder.y_proj.fc"), (r"^caption_norm", "attention_y_norm"),
        (r"^scale_shift_table", "final_layer.scale_shift_table"), (r"^proj_out", "final_layer.linear"),
        (r"^transformer_blocks", "blocks"), (r"attn1\.to_out\.0", "attn.proj"),
        (r"attn2\.to_q", "cross_attn.q_linear"), (r"attn2\.to_out\.0", "cross_attn.proj"),
        (r"ff\.conv_(inverted|depth|point)", r"mlp.\1_conv.conv"),
    ]  # fmt: skip
    return {**renamed(found, rules), "pos_embed": torch.ones(1, 4, 32), "y_embedder.y_embedding": torch.ones(3, 32)}


def autoencoder(tensors: Tensors, levels: int) -> dict[str, torch.Tensor]:
    """Of `AutoencoderKL`: levels of the decoder are counted the other way, and attention is by convolutions."""
    mid = r"mid_block\.attentions\.0\."
    found = {
        name: tensor[:, :, None, None] if re.search(rf"{mid}to_.*weight", name) else tensor
        for name, tensor in tensors.items()
    }
    rules = [
        *((rf"up_blocks\.{level}\.", f"up.{levels - 1 - level}.") for level in range(levels)),
        (r"down_blocks\.", "down."), (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"), (r"resnets\.", "block."), (r"(down|up)samplers\.0", r"\1sample"),
        (rf"{mid}group_norm", "mid.attn_1.norm"), (rf"{mid}to_out\.0", "mid.attn_1.proj_out"),
        (rf"{mid}to_([qkv])", r"mid.attn_1.\1"), (r"conv_norm_out", "norm_out"), (r"conv_shortcut", "nin_shortcut"),
    ]  # fmt: skip
    return renamed(found, rules)


def unet(tensors: Tensors, levels: int, layers: int) -> dict[str, torch.Tensor]:
    """Of SDXL's `UNet2DConditionModel`, whose levels are one list of blocks."""
    rules = [
        (r"(resnets\.\d+)\.norm1", r"\1.in_layers.0"), (r"(resnets\.\d+)\.norm2", r"\1.out_layers.0"),
        (r"\.conv1\.", ".in_layers.2."), (r"\.conv2\.", ".out_layers.3."), (r"\.time_emb_proj\.", ".emb_layers.1."),
        (r"\.conv_shortcut\.", ".skip_connection."), (r"^time_embedding\.linear_1", "time_embed.0"),
        (r"^time_embedding\.linear_2", "time_embed.2"), (r"^add_embedding\.linear_1", "label_emb.0.0"),
        (r"^add_embedding\.linear_2", "label_emb.0.2"), (r"^mid_block\.resnets\.0", "middle_block.0"),
        (r"^mid_block\.attentions\.0", "middle_block.1"), (r"^mid_block\.resnets\.1", "middle_block.2"),
        (r"^conv_in", "input_blocks.0.0"), (r"^conv_norm_out", "out.0"), (r"^conv_out", "out.2"),
    ]  # fmt: skip
    for level in range(levels):
        down, up = level * (layers + 1) + 1, level * (layers + 1)
        for layer in range(layers + 1):
            rules += [
                (rf"^down_blocks\.{level}\.resnets\.{layer}", f"input_blocks.{down + layer}.0"),
                (rf"^down_blocks\.{level}\.attentions\.{layer}", f"input_blocks.{down + layer}.1"),
                (rf"^up_blocks\.{level}\.resnets\.{layer}", f"output_blocks.{up + layer}.0"),
                (rf"^up_blocks\.{level}\.attentions\.{layer}", f"output_blocks.{up + layer}.1"),
            ]
        place = 2 if any(name.startswith(f"up_blocks.{level}.attentions") for name in tensors) else 1
        rules += [
            (rf"^down_blocks\.{level}\.downsamplers\.0\.conv", f"input_blocks.{down + layers}.0.op"),
            (rf"^up_blocks\.{level}\.upsamplers\.0", f"output_blocks.{up + layers}.{place}"),
        ]
    return renamed(tensors, rules)


def open_clip(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Of `CLIPTextModelWithProjection`, as SDXL's second text encoder is published."""
    found = fused(tensors, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "attn.in_proj")
    rules = [
        (r"^text_model\.", ""), (r"^embeddings\.token_embedding", "token_embedding"),
        (r"^embeddings\.position_embedding\.weight", "positional_embedding"), (r"^final_layer_norm", "ln_final"),
        (r"^encoder\.layers", "transformer.resblocks"), (r"in_proj\.", "in_proj_"), (r"self_attn", "attn"),
        (r"layer_norm([12])", r"ln_\1"), (r"mlp\.fc1", "mlp.c_fc"), (r"mlp\.fc2", "mlp.c_proj"),
        (r"^text_projection\.weight", "text_projection"),
    ]  # fmt: skip
    return {name: tensor.T if name == "text_projection" else tensor for name, tensor in renamed(found, rules).items()}
