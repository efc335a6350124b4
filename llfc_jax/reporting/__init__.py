"""What a run leaves for people to read: figures, a page, tables, a verdict; made from the results alone.

Matplotlib is slow to import, so it is imported when the first figure is drawn.
"""

from llfc_jax.reporting import drawing, figures, page, tables, tidy
from llfc_jax.reporting.judgement import Verdict, verdict

__all__ = ["Verdict", "drawing", "figures", "page", "tables", "tidy", "verdict"]
