"""``python -m mtmsa_lightning`` is ``mtmsa``."""

from mtmsa_lightning.cli import main

if __name__ == "__main__":
    main()
