"""Silicon: which cores, routers and links of which wafer are dead."""

from .defects import Alive, DefectMap

__all__ = ["Alive", "DefectMap"]
