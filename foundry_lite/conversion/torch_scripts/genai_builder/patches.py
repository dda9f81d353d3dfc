"""Patches of onnxruntime-genai's builder (0.18), applied before it is called. Each names the error that it fixes.

The builder reads config.json again, family by family, and forgets fields that it does not know: an epsilon, a window,
a scaling of rotary embeddings. It raises no error; the logits are wrong. Most of these fixes follow one rule: read the
modules that transformers has built for the same folder, which is what a model is compared with afterwards. Errors are
those of random weights, largest logit about 8, before the fix; docs/decisions/0019 has the list.
"""

from __future__ import annotations

from typing import Any

from foundry_lite.conversion.torch_scripts.genai_builder.nodes import add_linear, clip_qkv, epsilon_of

# The whole of these models looks back `sliding_window` tokens, and their configurations name no layers.
_WINDOWED_WHOLE = ("mistral", "mixtral", "ministral3", "phi3", "phimoe", "qwen3_moe", "starcoder2")


def correct(config: Any) -> None:
    """Write into a configuration of transformers what the builder does not find in it."""
    window = getattr(config, "sliding_window", None)
    if window and config.model_type in _WINDOWED_WHOLE:  # Mistral was 13 off: it attended to everything
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        # It has two tables, one for sequences up to the original length. Keys in a cache stay as they were turned, so
        # a sequence must not change over; ours stay within the first table, which transformers takes there too.
        usual = getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings
        config.max_position_embeddings = rope.get("original_max_position_embeddings") or usual
        config.original_max_position_embeddings = config.max_position_embeddings
    if config.model_type == "falcon":  # names of its own, which the builder does not know
        config.hidden_act = config.activation
        config.num_key_value_heads = _heads_of_falcon(config)
    if config.model_type in ("gpt2", "gpt_neox"):
        config.num_key_value_heads = config.num_attention_heads
    if config.model_type == "gpt2":
        config.hidden_act = config.activation_function
        config.intermediate_size = config.n_inner or 4 * config.n_embd
    if config.model_type == "gemma3_text":
        config.rope_local_base_freq = 0.0  # requested, then replaced by `_make_rotary_tables`


def _heads_of_falcon(config: Any) -> int:
    if config.new_decoder_architecture:
        return int(config.num_kv_heads)
    return 1 if config.multi_query else int(config.num_attention_heads)


def apply() -> None:
    """Patch the builder's classes. Doing so again changes nothing."""
    from onnxruntime_genai.models import builder
    from onnxruntime_genai.models.builder import Model

    if Model.make_rotary_embedding_caches is _make_rotary_tables:
        return
    for name in ("make_layernorm", "make_qk_norm"):
        setattr(Model, name, _with_own_epsilon(getattr(Model, name)))
    Model.load_weights = _load_weights
    builder.OLMoModel.make_layernorm = _with_own_epsilon(builder.OLMoModel.make_layernorm)
    # Rotary embeddings: LlamaModel knows "llama3" only and takes any other scaling for none, all others refuse it.
    Model.make_rope_init = builder.LlamaModel.make_rope_init = _ignore
    Model.make_rotary_embedding_caches = _make_rotary_tables
    builder.Gemma3Model.make_rotary_embedding_multi_cache = _ignore
    del builder.Gemma3Model.make_rotary_embedding_caches
    builder.GemmaModel.__init__ = _then(builder.GemmaModel.__init__, _set_exact_scale)
    builder.GraniteMoEHybridModel.__init__ = _then(builder.GraniteMoEHybridModel.__init__, _set_positions)
    builder.OLMoModel.__init__ = _then(builder.OLMoModel.__init__, _set_norm_with_mean)
    builder.SmolLM3Model.make_attention = _make_attention_of_smollm
    builder.OLMoModel.make_attention_qk_subgraph = _after_clipping(Model.make_attention_qk_subgraph)
    builder.NemotronModel.make_mlp_proj = _make_mlp_of_nemotron


def _ignore(_self: Any, *_arguments: Any) -> None:
    """Do nothing."""


def _load_weights(self: Any, input_path: str) -> Any:
    """Load a model all of whose weights are in the folder: transformers makes up what is missing, with a warning."""
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(input_path, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if missing or report["mismatched_keys"]:
        raise ValueError(f"the folder lacks weights of this model, or has others: {', '.join(missing[:3])}")
    return model


def _with_own_epsilon(make: Any) -> Any:
    """Normalise with the epsilon of the module: the builder knows ``rms_norm_eps`` only, and takes 1e-6 otherwise."""

    def made(self: Any, layer_id: int, module: Any, *arguments: Any, **more: Any) -> None:
        usual = self.layernorm_attrs["epsilon"]
        norms = [module.q_norm, module.k_norm] if hasattr(module, "q_norm") else [module]
        self.layernorm_attrs["epsilon"] = epsilon_of(norms[0], usual)
        for norm in norms:  # the builder adds Gemma's 1 to the weight in 16 bits, which rounds it to 8
            if getattr(norm, "weight", None) is not None:
                norm.weight.data = norm.weight.data.float()
        make(self, layer_id, module, *arguments, **more)
        self.layernorm_attrs["epsilon"] = usual

    return made


def _make_rotary_tables(self: Any, **_names: Any) -> tuple[str, str]:
    """Write the tables of the model's own rotary embedding, once for each kind of layer that has its own."""
    import torch

    rotary = next(one for one in self.weights.modules() if type(one).__name__.endswith("RotaryEmbedding"))
    kind = ""
    if not hasattr(rotary, "inv_freq"):
        kind = "full_attention_" if self.window_size == -1 else "sliding_attention_"
    names = f"{kind}cos_cache", f"{kind}sin_cache"
    made = self.rope_attrs.setdefault("made", set())
    if kind not in made:
        made.add(kind)
        speeds, scale = getattr(rotary, f"{kind}inv_freq"), getattr(rotary, f"{kind}attention_scaling")
        angles = torch.outer(torch.arange(self.context_length).float(), speeds.float())
        self.make_initializer(angles.cos() * scale, names[0])
        self.make_initializer(angles.sin() * scale, names[1])
    return names


def _then(before: Any, after: Any) -> Any:
    def made(self: Any, config: Any, *arguments: Any) -> None:
        before(self, config, *arguments)
        after(self, config)

    return made


def _set_exact_scale(self: Any, _config: Any) -> None:
    """Scale embeddings by the root of their size: the builder rounds it to two decimals (Gemma was 3e-3 off)."""
    self.embed_attrs["scale"] = float(self.hidden_size**0.5)


def _set_positions(self: Any, config: Any) -> None:
    """Leave positions out where the configuration does; the builder turned keys all the same."""
    if config.position_embedding_type != "rope":
        self.attention_attrs["rope"] = self.attention_attrs["use_rope_in_attn"] = False


def _set_norm_with_mean(self: Any, _config: Any) -> None:
    """Subtract the mean, as OLMo's norms do; the builder took them for RMS norms (4.7 off)."""
    self.layernorm_attrs["simple"] = False


def _make_attention_of_smollm(self: Any, layer_id: int, attention: Any, root_input: str, **more: Any) -> None:
    """Leave rotary embeddings out of some layers: the builder asked for an input that it had removed (KeyError)."""
    from onnxruntime_genai.models.builder import Model

    usual = {name: self.attention_attrs[name] for name in ("rope", "use_rope_in_attn")}
    if not self.no_rope_layers[layer_id]:
        self.attention_attrs.update(rope=False, use_rope_in_attn=False)
    Model.make_attention(self, layer_id, attention, root_input, **more)
    self.attention_attrs.update(usual)


def _after_clipping(make: Any) -> Any:
    """Clip queries, keys and values to ``clip_qkv``, which the builder does not read."""

    def made(self: Any, layer_id: int, attention: Any, root_input: str, **more: Any) -> None:
        clip_qkv(self, layer_id, attention.config.clip_qkv)
        make(self, layer_id, attention, root_input, **more)

    return made


def _make_mlp_of_nemotron(self: Any, layer_id: int, mlp: Any, root_input: str) -> None:
    """Make both products with their biases, which the builder leaves out."""
    base = f"/model/layers.{layer_id}/mlp"
    inner = add_linear(self, mlp.up_proj, f"{base}/up_proj", root_input)
    active = f"{self.make_activation(layer_id, root_input=inner)}/output_0"
    self.mlp_attrs["output_0"] = add_linear(self, mlp.down_proj, f"{base}/down_proj", active)
