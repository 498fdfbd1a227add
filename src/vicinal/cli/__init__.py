"""The command line: ``train.py``, and what the scripts share."""
