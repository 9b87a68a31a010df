"""Default values that several signatures, command-line options or help texts share; imports nothing.

A default that only one function has is written in its signature. The configs of ``experiments/`` override
those of a training.
"""

# Training
IMAGE_SIZE = 224
"""Side of the network's input in pixels."""

BATCH_SIZE = 32
"""Faces per training step and device."""

VAL_FRACTION = 0.1
"""Fraction of the training images used for validation."""

BALANCE_SMOOTHING = 2.0
"""Standard deviation in years of the kernel that smooths the density of ages for balanced sampling."""

# Search for faces
SMALLEST_FACE = 24
"""Shorter side in pixels of the smallest face that is searched for in large photos."""

ORIENTATIONS = ("auto", "upright")
"""``auto`` tries quarter turns of photos whose faces are doubtful, ``upright`` trusts EXIF."""

# Crops of `mtmsa prepare`
CROP_SIZE = 256
"""Side of canonical crops in pixels."""

MAX_UNREADABLE_PREPARED = 0.05
"""Fraction of images that `mtmsa prepare` may fail to read."""

# Metrics and reports
INTERVAL_LEVEL = 0.9
"""Level of shown prediction intervals of age, and of the interval that ``max_width`` refers to."""

CONFIDENCE_LEVEL = 0.95
"""Level of confidence intervals of metrics."""

MIN_FACES = 50
"""Least number of faces of a group for metrics of its own."""

DRAWS = 2_000
"""Bootstrap samples of a report: 50 lie beyond each end of a 95 % interval."""

PERMUTATIONS = 10_000
"""Sign flips of a comparison: a p-value of 0.05 then has a standard error of 0.002."""

# Decisions at legal ages
LEGAL_AGES = (13, 16, 18, 21, 25)
"""Legal ages of a report, in completed years."""

MAX_FPR = 0.01
"""Largest rate of wrong decisions that a policy accepts."""

NEAR_YEARS = 5
"""Years below and above a legal age whose faces a policy's rates refer to."""

CELL_AGES = (18, 30)
"""First and last age of the cells of NIST's mean absolute error."""

# Thresholds of `mtmsa audit`
NEAR = 31
"""Maximum distance of near-duplicates in bits: an eighth of all; see ``data/audit/near_duplicates.py``."""

MIN_SIDE = 64
"""Minimum side of an image in pixels: the smallest input of the network."""

MIN_SHARPNESS = 10.0
"""Minimum variance of the Laplacian (``data/audit/images.py``); about 0.4 % of UTKFace lie below."""

# Prediction and the web page
PREDICT_BATCH_SIZE = 64
"""Faces per batch of a prediction."""

SHEET_FACES = 120
"""Maximum of faces on a contact sheet, spread evenly over the table."""

HOST = "127.0.0.1"
"""Address of the web page: this machine only."""

PORTS = range(7860, 7960)
"""Ports of the web page that are tried, the same as Gradio's."""

MAX_MEGABYTES = 20.0
"""Size of the largest photo that the web page accepts, in MB of 2^20 bytes."""

# Synthetic faces
SYNTHETIC_FACES = 1500
"""Number of synthetic images."""

SYNTHETIC_SIDE = 200
"""Side of synthetic images in pixels."""
