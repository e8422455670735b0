"""The exercises of chapter 09, pre-training."""

from .compare import Check, some

__all__ = ["adam_step", "backward_by_hand", "descent", "gradient"]

backward_by_hand = Check(
    lambda: -36.0,
    mistakes={
        "This is only the effect of w on z; add the effect through h.": -20.0,
        "This is only the effect through h; add the direct effect on z.": -16.0,
        "The derivative of (z - 12)² is 2 (z - 12), not z - 12.": -18.0,
        "The sign is wrong: z - 12 is -2.": 36.0,
        "The two effects are added, not multiplied.": 320.0,
    },
)


def slope(f, w, h=1e-4, left=1, width=2, sign=1):
    """The gradient of f at w from two points; the options make the mistakes."""
    return sign * (f(w + h) - f(w - left * h)) / (width * h if width else 1)


gradient = Check(
    slope,
    [(lambda w: (3 * w - 6) ** 2, 1.0, 0.1), (lambda w: w**3 + 50 * (w - 2) ** 2, 2.0)],
    {
        "The two points lie 2h apart, not h.": {"width": 1},
        "Only one side: take a point on the left of `w`, too.": {"left": 0, "width": 1},
        "Divide the change of f by the change of its input.": {"width": 0},
        "The sign is wrong: right minus left.": {"sign": -1},
    },
)


def adam(w, g, m, v, t, rate, first=True, second=True, root=0.5, power=2, sign=-1, swap=False):
    """One step of Adam; the options make the mistakes."""
    b_1, b_2 = (0.999, 0.9) if swap else (0.9, 0.999)
    m, v = b_1 * m + (1 - b_1) * g, b_2 * v + (1 - b_2) * g**power
    m_hat = m / (1 - b_1**t) if first else m
    v_hat = v / (1 - b_2**t) if second else v
    return w + sign * rate * m_hat / (v_hat**root + 1e-8), m, v


adam_step = Check(
    adam,
    [(some(3), some(3).abs() + 1, some(3) / 2, some(3) ** 2 + 1, t, 0.1) for t in (1, 2, 50)],
    {
        "Divide by the square root of v, not by v.": {"root": 1},
        "v is a mean of the *squared* gradient.": {"power": 1},
        "The corrections 1 - 0.9^t and 1 - 0.999^t are missing.": {"first": False, "second": False},
        "m must be divided by 1 - 0.9^t.": {"first": False},
        "v must be divided by 1 - 0.999^t.": {"second": False},
        "The step goes *against* the gradient: subtract it.": {"sign": 1},
        "0.9 belongs to m, 0.999 to v.": {"swap": True},
    },
    ("w", "m", "v"),
)


def descend(w, pairs, rate, zero=True, before=False, sign=-1, shuffle=False):
    """Descend along the gradient of (w x - y)²; the options make the mistakes."""
    g = 0.0
    for x, y in pairs:
        if before:  # step first, with the gradient of the last pair
            w = w + sign * rate * g
        g = (0.0 if zero else g) + 2 * (w * x - y) * x
        if not before:
            w = w + sign * rate * g
    return w


descent = Check(
    descend,
    [(1.0, [(2.0, 3.0), (1.0, 5.0), (3.0, 4.0)], 0.01), (0.5, [(1.0, 2.0)], 0.1)],
    {
        "Each step adds to the gradients of all earlier ones: forget them.": {"zero": False},
        "The step comes before the gradient of its pair.": {"before": True},
        "The step comes before the gradient, and old gradients are never forgotten.": {
            "before": True,
            "zero": False,
        },
        "The step goes up: the error grows.": {"sign": 1},
    },
)
