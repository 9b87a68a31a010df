"""Synthetic faces in the layouts of real releases, for demos and tests."""

from mtmsa_lightning.data.synthetic.drawing import draw_face
from mtmsa_lightning.data.synthetic.releases import write_adience, write_morph, write_utkface
from mtmsa_lightning.data.synthetic.subjects import Subject, draw_subject

__all__ = ["Subject", "draw_face", "draw_subject", "write_adience", "write_morph", "write_utkface"]
