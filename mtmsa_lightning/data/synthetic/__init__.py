"""Synthetic faces in the layouts of real releases, for demos and tests."""

from mtmsa_lightning.data.synthetic.drawing import Subject, draw_face, draw_subject
from mtmsa_lightning.data.synthetic.releases import write_adience, write_morph, write_utkface

__all__ = ["Subject", "draw_face", "draw_subject", "write_adience", "write_morph", "write_utkface"]
