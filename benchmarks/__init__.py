"""Side by side: the library's way of a piece of work and the common way, as ratios within one run.

    python -m benchmarks [FAMILY ...] [--rounds 7] [--out results/benchmarks]

One module per family of rows. All of them run in one process on one torch thread; the two ways of a row are checked to
agree before they are timed, and then take turns, so that a busy machine slows them alike.
"""
