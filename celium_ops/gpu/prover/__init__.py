"""What runs in the container on a GPU host and answers an examination: standard library, torch and pynvml, no more."""
