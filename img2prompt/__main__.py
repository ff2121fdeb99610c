"""`python -m img2prompt`, for where console scripts are not on the path."""

from img2prompt.cli import run

if __name__ == "__main__":
    run()
