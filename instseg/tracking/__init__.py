"""Instances of consecutive frames to tracks: candidates with their gains, a global optimum, and what it means.

Arrays go in and arrays come out; files are for `instseg.inference.track_files`.
"""
