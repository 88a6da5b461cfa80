"""Annotations that other tools have made, to a folder of images and labels that training takes."""
