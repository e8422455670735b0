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
from .chapter_07 import answer_labels as answer_labels
from .chapter_07 import own_gpt as own_gpt
from .chapter_07 import perplexity_by_hand as perplexity_by_hand
from .chapter_07 import token_loss as token_loss
from .chapter_08 import greedy_batch as greedy_batch
from .chapter_08 import min_p as min_p
from .chapter_08 import temperature_by_hand as temperature_by_hand
from .chapter_08 import top_p as top_p
from .chapter_10 import joint_loss as joint_loss
from .chapter_10 import question_texts as question_texts
from .chapter_10 import state_by_index as state_by_index
from .chapter_11 import last_position as last_position
from .chapter_11 import mean_state as mean_state
from .chapter_11 import three_losses as three_losses
