"""Draw the whole model, once for each chapter with that chapter's part highlighted.

Run it in this folder: `python model.py` writes `model_00.svg` to `model_14.svg`.
"""

from pathlib import Path

BOXES = {  # name -> x, y, width, height, title, lines below it
    "tokenizer": (24, 150, 124, 92, "tokenizer", "text → words →", "tokens → ids"),
    "embedding": (200, 150, 132, 92, "embedding", "row of the token", "+ row of the position"),
    "attention": (424, 118, 132, 64, "attention", "each position attends", "to all up to itself"),
    "norm 1": (424, 200, 132, 32, "add, layer norm"),
    "MLP": (424, 250, 132, 64, "MLP", "C → 4C → C,", "each position alone"),
    "norm 2": (424, 332, 132, 32, "add, layer norm"),
    "LM head": (652, 150, 132, 64, "LM head", "a score for every", "possible next token"),
    "generation": (856, 150, 124, 64, "generation", "choose one token,", "append it, repeat"),
    "choice head": (652, 240, 132, 52, "choice head", "which ending fits?"),
    "classifier": (652, 318, 132, 52, "classifier", "which class is it?"),
}
LABELS = [  # x, y, text: what runs along the arrows
    (174, 188, "ids"),
    (174, 212, "(B, T)"),
    (362, 218, "(B, T, C)"),
    (604, 368, "(B, T, C)"),
    (820, 174, "logits"),
    (820, 200, "(B, T, V)"),
    (868, 270, "(B, choices)"),
    (842, 348, "(B, L)"),
]
ARROWS = [
    "M148 196 H200",
    "M332 196 H378 V150 H424",
    "M490 182 V200",
    "M490 232 V250",
    "M490 314 V332",
    "M556 348 H604 V182 H652",
    "M604 266 H652",
    "M604 344 H652",
    "M784 182 H856",
    "M784 266 H822",
    "M784 344 H822",
    "M918 150 V52 H86 V150",
    "M408 150 V216 H424",  # the two additions: what went in is added to what came out
    "M490 241 H408 V348 H424",
]
BLOCK = ["attention", "norm 1", "MLP", "norm 2"]
PARTS = {  # chapter -> which boxes are its own; the tour has all of them
    "00": [],
    "01": ["tokenizer"],
    "02": ["tokenizer"],
    "03": ["embedding", *BLOCK],
    "04": ["attention"],
    "05": BLOCK,
    "06": ["embedding", *BLOCK],
    "07": ["LM head"],
    "08": ["generation"],
    "09": ["embedding", *BLOCK, "LM head"],
    "10": ["LM head", "choice head"],
    "11": ["classifier"],
    "12": ["tokenizer", "embedding"],
    "13": ["embedding", *BLOCK, "LM head", "choice head", "classifier"],
    "14": ["attention", "LM head"],
}
STYLE = """
svg { color-scheme: only light }
text { font: 13px sans-serif; fill: #1f2933; text-anchor: middle }
.title { font-weight: bold } .small { font-size: 12px } .note { font-size: 12px; fill: #52606d }
.box { fill: #e8edf3; stroke: #7b8794 } .on { fill: #ffd98a; stroke: #b7791f; stroke-width: 2 }
.arrow { fill: none; stroke: #52606d; stroke-width: 1.5; marker-end: url(#head) }
"""


def box(x, y, width, height, title, *lines, on: bool) -> str:
    """Draw one box with its title and the lines below."""
    kind, middle = "on" if on else "box", x + width / 2
    top = y + height / 2 - 8 * len(lines) + 5
    texts = [f'<text class="title" x="{middle}" y="{top}">{title}</text>']
    texts += [
        f'<text class="small" x="{middle}" y="{top + 17 * n}">{line}</text>'
        for n, line in enumerate(lines, 1)
    ]
    shape = f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>'
    return shape + "".join(texts)


def draw(chapter: str) -> str:
    """Return the picture for a chapter as SVG, on a light card of its own."""
    own = PARTS[chapter]
    parts = [f'<path class="arrow" d="{path}"/>' for path in ARROWS]
    parts += [box(*what, on=name in own) for name, what in BOXES.items()]
    parts += [f'<text class="small" x="{x}" y="{y}">{text}</text>' for x, y, text in LABELS]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1004 400" width="1004">'
        f"<style>{STYLE}</style>"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#52606d"/></marker></defs>'
        '<rect width="1004" height="400" rx="10" fill="#fbfaf6"/>'
        '<rect x="394" y="84" width="184" height="296" rx="9" fill="none" stroke="#7b8794" '
        'stroke-dasharray="5 4"/><text class="note" x="490" y="104">block, 12 times</text>'
        '<text class="note" x="500" y="44">the new token joins the text</text>'
        f"{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    for chapter in PARTS:
        Path(f"model_{chapter}.svg").write_text(draw(chapter), encoding="utf-8")
