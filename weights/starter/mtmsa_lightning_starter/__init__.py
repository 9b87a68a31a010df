"""A trained network of mtmsa-lightning in the folder ``network``; its model card is the README.md there."""
