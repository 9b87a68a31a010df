"""The commands of ``mtmsa`` beside those of the Trainer, each with ``parser()`` and ``main(args)``."""
