"""Check the exercises of the course: `check.attention(my_attention)` names your mistake."""

from .chapter_04 import attention as attention
from .chapter_05 import gradient as gradient
from .chapter_05 import layer_norm_by_hand as layer_norm_by_hand
from .chapter_05 import mlp as mlp
from .chapter_05 import planted_error as planted_error
from .chapter_06 import cache_size as cache_size
from .chapter_06 import cached_step as cached_step
from .chapter_06 import embedding as embedding
from .chapter_06 import greedy_writer as greedy_writer
from .chapter_06 import padded_positions as padded_positions
