"""The board: state, runs and parameters of the experiments, in `notebooks/00_board.ipynb`."""
