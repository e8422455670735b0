"""Check the exercises of the course: `check.attention(my_attention)` names your mistake."""

from .chapter_00 import continue_text as continue_text
from .chapter_00 import loss_by_hand as loss_by_hand
from .chapter_00 import shapes as shapes
from .chapter_03 import analogy as analogy
from .chapter_03 import attention_parameters as attention_parameters
from .chapter_03 import blocks_that_fit as blocks_that_fit
from .chapter_03 import similarity as similarity
from .chapter_04 import attention as attention
from .chapter_04 import attention_by_hand as attention_by_hand
from .chapter_04 import layer as layer
from .chapter_04 import window_mask as window_mask
from .chapter_05 import gradient as gradient
from .chapter_05 import layer_norm_by_hand as layer_norm_by_hand
from .chapter_05 import mlp as mlp
from .chapter_05 import planted_error as planted_error
from .chapter_06 import cache_size as cache_size
from .chapter_06 import cached_step as cached_step
from .chapter_06 import embedding as embedding
from .chapter_06 import greedy_writer as greedy_writer
from .chapter_06 import padded_positions as padded_positions
from .chapter_10 import joint_loss as joint_loss
from .chapter_10 import question_texts as question_texts
from .chapter_10 import state_by_index as state_by_index
from .chapter_11 import last_position as last_position
from .chapter_11 import mean_state as mean_state
from .chapter_11 import three_losses as three_losses
