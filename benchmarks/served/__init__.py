"""Training in processes of their own, which say on request how long some steps take.

Two trees of this project have modules of the same names, so one process cannot hold both; and two
runs beside each other are two processes.
"""
