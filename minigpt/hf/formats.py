"""Files of weights: safetensors, `pytorch_model.bin`, and OpenAI's release."""
import math
from pathlib import Path
from .files import read_json
BLOCK_PARAMETERS = [
    f"{layer}.{kind}"
    for layer in ("attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2")
    for kind in ("weight", "bias")
]
def read_shapes(folder: str | Path) -> list[list[int]]:
    """Read `params_shapes.json`. Raises ValueError, naming it, if these are no GPT-1's shapes."""
    path = Path(folder, "params_shapes.json")
    shapes = read_json(path, list)
    return shapes
def release_sizes(folder: str | Path) -> dict:
    """Read what the shapes of a release tell: all sizes but the number of heads."""
    shapes = read_shapes(folder)
    (n_positions, n_embd), (vocab_size, _) = shapes[:2]
    return {
        "n_positions": n_positions,
        "vocab_size": vocab_size,
        "n_embd": n_embd,
        "n_layer": (len(shapes) - 2) // len(BLOCK_PARAMETERS),
    }
